-- Lists who follows the log, with the time by the very server whose clock their heartbeats have: in a cluster TIME alone would ask any node.
--
-- KEYS[1]  the replicas (heartbeat.lua)
--
-- Returns {microseconds since 1970, id, value, id, value, ...}, each a string.

local time = redis.call('TIME')
local reply = redis.call('HGETALL', KEYS[1])
table.insert(reply, 1, string.format('%.0f', time[1] * 1000000 + time[2]))
return reply
