-- Saves an entry and names it in the root of its URL, together: a reader sees both or neither. Both keys lie in one slot.
--
-- KEYS[1]  the entry, P:e:{URL}:VARIANT
-- KEYS[2]  the root of its URL, P:v:{URL}
-- ARGV[1]  the encoded entry (encoding.go): byte 4 is its version, bytes 17-24 its epoch, 25-32 its bodyAsOf, big-endian
-- ARGV[2]  VARIANT, 32 hexadecimal digits
-- ARGV[3]  FILL, 16 hexadecimal digits
-- ARGV[4]  milliseconds until it is to be forgotten, at least 1
-- ARGV[5]  response time, microseconds since 1970
-- ARGV[6]  the nomination
-- ARGV[7]  how many variants a URL may have, at least 1
--
-- Returns an array. The first element is "ok", or why nothing was written:
--   "newer-version"  the value there is of a version that the caller cannot read
--   "newer-body"     the value there is of the same epoch and a higher bodyAsOf: its fetch began later
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

-- When a variant expires, by its field in the root; nil for a field of another version.
local function expires(value)
	local digits = string.match(value, '^%x+ (%d+) ')
	return digits and #digits <= 15 and tonumber(digits) or nil
end

local old = redis.call('GETRANGE', KEYS[1], 0, 31)
if string.sub(old, 1, 3) == 'CPE' then
	if #old >= 4 and string.byte(old, 4) > string.byte(ARGV[1], 4) then
		return {'newer-version'}
	end
	local epoch = string.sub(ARGV[1], 17, 24)
	if #old == 32 and string.sub(old, 17, 24) == epoch and above(string.sub(old, 25, 32), string.sub(ARGV[1], 25, 32)) then
		return {'newer-body'}
	end
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local expiry = now + tonumber(ARGV[4])
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[4])
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
local reply = {'ok'}
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
