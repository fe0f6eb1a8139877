-- Enters an entry into the index of a tag or a group.
--
-- KEYS[1]  the index, P:t:{TAG} or P:g:{ORIGIN:NAME}, a sorted set: key of an entry -> microseconds since 1970 by this server's clock, after
--          which the entry is no longer there
-- ARGV[1]  the key of the entry
-- ARGV[2]  microseconds for which it will be there
-- ARGV[3]  microseconds since 1970 in place of this server's clock; "" = by that
--
-- The score rises each time, if only by one: whoever has read it can tell whether the entry was entered again since (drop.lua).
-- Numbers are below 2^53.

local now = tonumber(ARGV[3])
if not now then
	local time = redis.call('TIME')
	now = time[1] * 1000000 + time[2]
end
local score = now + tonumber(ARGV[2])
local old = redis.call('ZSCORE', KEYS[1], ARGV[1])
if old then
	score = math.max(score, tonumber(old) + 1)
end
redis.call('ZADD', KEYS[1], string.format('%.0f', score), ARGV[1])
return 1
