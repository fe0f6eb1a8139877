#!lua flags=allow-oom
-- Queues the second sweep of records, of each once. All keys lie in one slot; a full Redis takes it too.
--
-- KEYS[1]  P:{inv}:swept, a hash (sweepnotes.go)
-- KEYS[2]  the queue of sweeps
-- KEYS[3]  the log (append.lua)
-- ARGV     the records' sequences

for _, seq in ipairs(ARGV) do
	if #redis.call('XRANGE', KEYS[3], seq .. '-0', seq .. '-0') > 0 and redis.call('HSETNX', KEYS[1], seq .. ':again', '1') == 1 then
		redis.call('RPUSH', KEYS[2], seq)
	end
end
return 1
