-- Lists who follows the log, with the time by the very server whose clock their heartbeats have: in a cluster TIME alone would ask any node.
--
-- KEYS[1]  the replicas (heartbeat.lua)
--
-- Returns {microseconds since 1970, RUN, SINCE, id, value, id, value, ...}, each a string. RUN is another one when this server has been started again
-- or another one has taken its place; "-" where the user may not ask (INFO). SINCE is when this run took the first heartbeat since it, or another
-- one, knew nobody, microseconds; "0" = it has not taken any.

local time = redis.call('TIME')
local reply = redis.call('HGETALL', KEYS[1])
local info = redis.pcall('INFO', 'server')
local run = type(info) == 'string' and string.match(info, 'run_id:(%x+)') or '-'
local known, since = string.match(redis.call('HGET', KEYS[1], 'run') or '', '^(%S+) (%d+)$')
table.insert(reply, 1, known == run and since or '0')
table.insert(reply, 1, run)
table.insert(reply, 1, string.format('%.0f', time[1] * 1000000 + time[2]))
return reply
