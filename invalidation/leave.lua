#!lua flags=allow-oom
-- Notes that a replica follows the log no more: "left MICROSECONDS" in its place, or "left MICROSECONDS itself": then no heartbeat of it that comes
-- late registers it again. A full Redis takes it too.
--
-- KEYS[1]  the replicas (heartbeat.lua)
-- ARGV[1]  the replica's id
-- ARGV[2]  "1": also where there is none of that id; "itself": the same, and it is the replica that says so
--
-- Returns 1, or 0 where there is none of that id, or it has left already.

local there = redis.call('HGET', KEYS[1], ARGV[1])
local left = there and string.sub(there, 1, 5) == 'left '
if ARGV[2] ~= 'itself' and left or ARGV[2] == '0' and not there then
	return 0
end
local time = redis.call('TIME')
local how = (ARGV[2] == 'itself' or there and string.match(there, '^left %d+ itself')) and ' itself' or ''
redis.call('HSET', KEYS[1], ARGV[1], 'left ' .. string.format('%.0f', time[1] * 1000000 + time[2]) .. how)
return 1
