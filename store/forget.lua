-- Forgets one entry, if its root still names it: what has replaced it stays. Both keys lie in one slot.
--
-- KEYS[1]  the entry, P:e:{URL}:VARIANT
-- KEYS[2]  the root of its URL, P:v:{URL}; its values start with FILL (save.lua)
-- ARGV[1]  VARIANT, 32 hexadecimal digits
-- ARGV[2]  FILL, 16 hexadecimal digits
--
-- Returns 1 when it was there, else 0.

local named = redis.call('HGET', KEYS[2], ARGV[1])
if not named or string.sub(named, 1, 16) ~= ARGV[2] then
	return 0
end
redis.call('HDEL', KEYS[2], ARGV[1])
redis.call('UNLINK', KEYS[1])
return 1
