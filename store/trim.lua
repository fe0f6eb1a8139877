-- Takes entries that have expired out of an index, the oldest first.
--
-- KEYS[1]  the index (index.lua)
-- ARGV[1]  how many at the most
-- ARGV[2]  microseconds since 1970 in place of this server's clock; "" = by that
--
-- Returns how many were taken out.

local now = ARGV[2]
if now == '' then
	local time = redis.call('TIME')
	now = string.format('%.0f', time[1] * 1000000 + time[2])
end
local n = math.min(redis.call('ZCOUNT', KEYS[1], '-inf', now), tonumber(ARGV[1]))
if n > 0 then
	redis.call('ZREMRANGEBYRANK', KEYS[1], 0, n - 1)
end
return n
