#!lua flags=allow-oom
-- Appends a record to the log, queues its sweep and tells who listens. All keys lie in one slot; a full Redis takes it too.
--
-- KEYS[1]  the log, P:{inv}:log, a stream. An entry's ID is "SEQ-0"; its fields are e (epoch, 16 hexadecimal digits), n (nonce, the same),
--          p and q (sequence and nonce of the record before it, "0" and "" for the first of an epoch), b (stored-before in microseconds,
--          0 = none) and r (the purge, JSON; "" for the record that begins an epoch and selects nothing)
-- KEYS[2]  the queue of sweeps, P:{inv}:sweeps, a list of sequences
-- KEYS[3]  what was appended again, P:{inv}:again, a hash: nonce of the lost record -> sequence
-- KEYS[4]  the history, P:{inv}:history (trim.lua): a log that begins anew goes on behind it
-- ARGV[1]  the purge, JSON; "" appends only if the log holds nothing: the begin of an epoch
-- ARGV[2]  the nonce
-- ARGV[3]  the epoch to begin if the log holds nothing
-- ARGV[4]  the channel to publish the sequence on
-- ARGV[5]  older_than in microseconds, 0 = none
-- ARGV[6]  nonce of the record that the log has lost and that this one stands for; "" = none
-- ARGV[7]  for how many milliseconds it is remembered that it was appended again
-- ARGV[8]  sequence of the lost record; "" = none
--
-- Returns {SEQ, epoch, p, q, b}, each a string. It returns nothing with ARGV[1] empty and a log that holds something, and where
-- another replica has appended the lost record again, or the history has it: then it was not lost, but trimmed when it was swept for good.

local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
if last and ARGV[1] == '' then
	return {}
end
if ARGV[6] ~= '' then
	local again = redis.call('HGET', KEYS[3], ARGV[6])
	if again and #redis.call('XRANGE', KEYS[1], again .. '-0', again .. '-0') > 0 then
		return {}
	end
	local past = redis.call('XRANGE', KEYS[4], ARGV[8] .. '-0', ARGV[8] .. '-0')[1]
	for i = 1, past and #past[2] or 0, 2 do
		if past[2][i] == 'n' and past[2][i + 1] == ARGV[6] then
			return {}
		end
	end
end
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local seq, epoch, p, q = now, ARGV[3], '0', ''
if last then
	p = string.match(last[1], '^(%d+)')
	for i = 1, #last[2], 2 do
		if last[2][i] == 'e' then
			epoch = last[2][i + 1]
		elseif last[2][i] == 'n' then
			q = last[2][i + 1]
		end
	end
	seq = math.max(seq, tonumber(p) + 1)
end
local past = redis.call('XREVRANGE', KEYS[4], '+', '-', 'COUNT', 1)[1]
if past then
	seq = math.max(seq, tonumber(string.match(past[1], '^(%d+)')) + 1)
end
local before = 0
if tonumber(ARGV[5]) > 0 then
	before = math.max(now - tonumber(ARGV[5]), 1) -- longer ago than 1970 selects nothing, as 0 would not
end
seq, before = string.format('%.0f', seq), string.format('%.0f', before)
redis.call('XADD', KEYS[1], seq .. '-0', 'e', epoch, 'n', ARGV[2], 'p', p, 'q', q, 'b', before, 'r', ARGV[1])
if ARGV[1] ~= '' then
	redis.call('RPUSH', KEYS[2], seq)
	redis.call('PUBLISH', ARGV[4], seq)
end
if ARGV[6] ~= '' then
	redis.call('HSET', KEYS[3], ARGV[6], seq)
	redis.call('PEXPIRE', KEYS[3], ARGV[7])
end
return {seq, epoch, p, q, before}
