-- Lets an entry that was written provisionally live as long as it should, if it is still the one that was checked. Both keys lie in one
-- slot.
--
-- KEYS[1]  the entry, P:e:{URL}:VARIANT
-- KEYS[2]  the root of its URL, P:v:{URL} (save.lua)
-- ARGV[1]  VARIANT, 32 hexadecimal digits
-- ARGV[2]  validAsOf and FILL of the entry, its bytes 41-56
-- ARGV[3]  milliseconds until it is to be forgotten, at least 1
-- ARGV[4]  staleSince, 8 bytes, where a soft purge came in between; else empty
--
-- Returns 1, or 0 when another one has taken its place, or it has expired.

if redis.call('GETRANGE', KEYS[1], 40, 55) ~= ARGV[2] then
	return 0
end
local named = redis.call('HGET', KEYS[2], ARGV[1])
local fill, rest = string.match(named or '', '^(%x+) %d+ (.*)$')
if not fill then
	return 0
end
if ARGV[4] ~= '' then
	redis.call('SETRANGE', KEYS[1], 8, ARGV[4])
end
local time = redis.call('TIME')
local expiry = time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[3])
redis.call('PEXPIREAT', KEYS[1], string.format('%.0f', expiry))
redis.call('HSET', KEYS[2], ARGV[1], fill .. ' ' .. string.format('%.0f', expiry) .. ' ' .. rest)
if redis.call('PTTL', KEYS[2]) < tonumber(ARGV[3]) then
	redis.call('PEXPIREAT', KEYS[2], string.format('%.0f', expiry))
end
return 1
