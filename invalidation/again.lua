#!lua flags=allow-oom
-- Queues the second sweep of records: of each once, and once more where nothing is in the queue and it was not done for a long time, since then
-- it was lost. All keys lie in one slot; a full Redis takes it too.
--
-- KEYS[1]  P:{inv}:swept, a hash (sweepnotes.go)
-- KEYS[2]  the queue of sweeps
-- KEYS[3]  the log (append.lua)
-- ARGV[1]  what a long time is, microseconds
-- ARGV[2]  a record's sequence
--          ... and so on

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local idle = redis.call('LLEN', KEYS[2]) == 0
for i = 2, #ARGV do
	local seq = ARGV[i]
	if #redis.call('XRANGE', KEYS[3], seq .. '-0', seq .. '-0') > 0 then
		local queued = tonumber(redis.call('HGET', KEYS[1], seq .. ':again') or '')
		if not queued or idle and now - queued > tonumber(ARGV[1]) then
			redis.call('HSET', KEYS[1], seq .. ':again', string.format('%.0f', now))
			redis.call('RPUSH', KEYS[2], seq)
		end
	end
end
return 1
