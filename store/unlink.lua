#!lua flags=allow-oom
-- Forgets one entry, or makes it stale, for a purge, if it is still the one that was looked at and the purge forbids it. Both keys lie in
-- one slot. A full Redis takes it too: a soft purge writes 8 bytes in place.
--
-- KEYS[1]  the entry, P:e:{URL}:VARIANT
-- KEYS[2]  the root of its URL, P:v:{URL} (save.lua)
-- ARGV[1]  VARIANT, 32 hexadecimal digits
-- ARGV[2]  epoch of the purge, 8 bytes
-- ARGV[3]  its sequence, 8 bytes
-- ARGV[4]  FILL of the entry that was looked at, 8 bytes; empty = whichever is there
-- ARGV[5]  "soft": it becomes stale; else it is forgotten
--
-- Returns {1, CHUNKS} when something was done with an entry, else {0, ''}; a root that names one which has expired names it no more. CHUNKS is "FILL CHUNKS" of an entry in chunks that was forgotten, else empty.

local function above(a, b)
	for i = 1, 8 do
		local x, y = string.byte(a, i), string.byte(b, i)
		if x ~= y then
			return x > y
		end
	end
	return false
end

local old, chunks = redis.call('GETRANGE', KEYS[1], 0, 111), ''
if #old >= 56 and string.sub(old, 1, 3) == 'CPE' then
	if ARGV[4] ~= '' and string.sub(old, 49, 56) ~= ARGV[4] then
		return {0, ''}
	end
	local same = string.sub(old, 25, 32) == ARGV[2]
	if ARGV[5] == 'soft' then
		if not same or not above(ARGV[3], string.sub(old, 41, 48)) or not above(ARGV[3], string.sub(old, 9, 16)) then
			return {0, ''}
		end
		redis.call('SETRANGE', KEYS[1], 8, ARGV[3])
		return {1, ''}
	end
	if same and not above(ARGV[3], string.sub(old, 33, 40)) then
		return {0, ''}
	end
	if #old == 112 and math.floor(string.byte(old, 8) / 64) % 2 == 1 then
		local fill, length = '', 0
		for i = 49, 56 do
			fill = fill .. string.format('%02x', string.byte(old, i))
		end
		for i = 105, 112 do
			length = length * 256 + string.byte(old, i)
		end
		chunks = fill .. ' ' .. string.format('%.0f', math.ceil(length / 262144))
	end
end
if ARGV[5] == 'soft' then
	return {0, ''}
end
redis.call('HDEL', KEYS[2], ARGV[1])
return {redis.call('UNLINK', KEYS[1]), chunks}
