-- Saves an entry and names it in the root of its URL, together: a reader sees both or neither. Both keys lie in one slot.
--
-- KEYS[1]  the entry, P:e:{URL}:VARIANT
-- KEYS[2]  the root of its URL, P:v:{URL}
-- ARGV[1]  the first 24 bytes of the encoded entry (encoding.go); the rest of it is ARGV[8]. Of the whole, byte 4 is its version, bytes 5-8
--          its flags, 25-32 its epoch, 33-40 its bodyAsOf, 49-56 its FILL, 105-112 the length of its body, big-endian
-- ARGV[2]  VARIANT, 32 hexadecimal digits
-- ARGV[3]  FILL, 16 hexadecimal digits
-- ARGV[4]  milliseconds until it is to be forgotten, at least 1
-- ARGV[5]  response time, microseconds since 1970
-- ARGV[6]  the nomination
-- ARGV[7]  how many variants a URL may have, at least 1
-- ARGV[8]  the rest of the entry
-- ARGV[9]  microseconds since 1970 by this server's clock after which the entry may not be written any more; 0 = whenever
--
-- Returns an array. The first element is "ok", or why nothing was written:
--   "newer-version"  the value there is of a version that the caller cannot read, or has flags that it does not know
--   "newer-body"     the value there is of the same epoch and a higher bodyAsOf: its fetch began later
--   "late"           it is past ARGV[9]: purges that forbid it may be forgotten before it is
-- The second is "FILL CHUNKS" of an entry in chunks that was replaced by another fetch, or empty.
-- The others are variants that were dropped from the root to make room; their entries are no longer found and may be unlinked.
--
-- A root's field is a variant, its value "FILL EXPIRY RESPONSETIME NOMINATION", EXPIRY in milliseconds since 1970 by this server's
-- clock, at most 15 digits. Fields that do not read so belong to another version and are left alone.

-- Lua compares strings by locale, and its numbers hold 53 bits: so sequences are compared byte by byte.
local function above(a, b)
	for i = 1, 8 do
		local x, y = string.byte(a, i), string.byte(b, i)
		if x ~= y then
			return x > y
		end
	end
	return false
end

-- Whether the upper three bytes of flags have any but the ten that version 1 knows (flagsKnown).
local function unknown(first, second, third)
	return first > 0 or second > 0 or third > 3
end

-- When a variant expires, by its field in the root; nil for a field of another version.
local function expires(value)
	local digits = string.match(value, '^%x+ (%d+) ')
	return digits and #digits <= 15 and tonumber(digits) or nil
end

local entry = ARGV[1] .. ARGV[8]
local time = redis.call('TIME')
if tonumber(ARGV[9]) > 0 and time[1] * 1000000 + time[2] > tonumber(ARGV[9]) then
	return {'late'}
end
local old, replaced = redis.call('GETRANGE', KEYS[1], 0, 111), ''
if string.sub(old, 1, 3) == 'CPE' then
	if #old >= 4 and string.byte(old, 4) > string.byte(ARGV[1], 4) then
		return {'newer-version'}
	end
	if #old == 112 and string.byte(old, 4) == string.byte(ARGV[1], 4) and unknown(string.byte(old, 5, 7)) then
		return {'newer-version'}
	end
	local epoch = string.sub(entry, 25, 32)
	if #old >= 40 and string.sub(old, 25, 32) == epoch and above(string.sub(old, 33, 40), string.sub(entry, 33, 40)) then
		return {'newer-body'}
	end
	if #old == 112 and math.floor(string.byte(old, 8) / 64) % 2 == 1 and string.sub(old, 49, 56) ~= string.sub(entry, 49, 56) then
		local fill, length = '', 0
		for i = 49, 56 do
			fill = fill .. string.format('%02x', string.byte(old, i))
		end
		for i = 105, 112 do
			length = length * 256 + string.byte(old, i)
		end
		replaced = fill .. ' ' .. string.format('%.0f', math.ceil(length / 262144))
	end
end

local now = time[1] * 1000 + math.floor(time[2] / 1000)
local expiry = now + tonumber(ARGV[4])
redis.call('SET', KEYS[1], entry, 'PX', ARGV[4])
redis.call('HSET', KEYS[2], ARGV[2],
	ARGV[3] .. ' ' .. string.format('%.0f', expiry) .. ' ' .. ARGV[5] .. ' ' .. ARGV[6])

-- Drop what has expired, and of too many variants those that expire first; never the one just saved.
local others, last = {}, expiry
local root = redis.call('HGETALL', KEYS[2])
for i = 1, #root, 2 do
	local ends = expires(root[i + 1])
	if ends and ends <= now then
		redis.call('HDEL', KEYS[2], root[i])
	elseif ends and root[i] ~= ARGV[2] then
		others[#others + 1] = {variant = root[i], ends = ends}
	end
end
table.sort(others, function(a, b) return a.ends > b.ends end)
local reply = {'ok', replaced}
for i = #others, tonumber(ARGV[7]), -1 do
	redis.call('HDEL', KEYS[2], others[i].variant)
	reply[#reply + 1] = others[i].variant
	others[i] = nil
end
if others[1] and others[1].ends > last then
	last = others[1].ends
end
redis.call('PEXPIREAT', KEYS[2], string.format('%.0f', last))
return reply
