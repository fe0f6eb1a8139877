#!lua flags=allow-oom
-- Takes the lease of whoever turns events into purges, renews it, or says who holds it. A full Redis takes it too.
--
-- KEYS[1]  the lease, P:{inv}:events, a string "SINCE UNTIL HOLDER"
-- ARGV[1]  the id of who asks
-- ARGV[2]  milliseconds for which it wants to hold it; 0 = it gives it back
-- ARGV[3]  SINCE, and
-- ARGV[4]  UNTIL: the holder has appended all that was published after the one and before the other, in microseconds since 1970 by this clock;
--          "0" and "0" = it vouches for nothing
--
-- Returns {holder, SINCE, UNTIL, now}, each a string; holder is "" when nobody holds it. now is in microseconds since 1970.

local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000000 + time[2])
local since, upto, holder = string.match(redis.call('GET', KEYS[1]) or '', '^(%d+) (%d+) (.+)$')
if holder and holder ~= ARGV[1] then
	return {holder, since, upto, now}
end
if ARGV[2] == '0' then
	redis.call('UNLINK', KEYS[1])
	return {'', '0', '0', now}
end
redis.call('SET', KEYS[1], ARGV[3] .. ' ' .. ARGV[4] .. ' ' .. ARGV[1], 'PX', ARGV[2])
return {ARGV[1], ARGV[3], ARGV[4], now}
