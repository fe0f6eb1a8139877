#!lua flags=allow-oom
-- Says that a replica has applied the log up to a record, if that very record is in the log, or is where the log was trimmed.
--
-- KEYS[1]  the log (append.lua)
-- KEYS[2]  the replicas, P:{inv}:replicas, a hash: id -> "SEQ EPOCH BEAT LEASE VERSION", BEAT in microseconds by this
--          server's clock, LEASE in milliseconds: for how long after BEAT it may serve what it holds (0 = for ever); and "run" -> "RUN SINCE":
--          the run of the server (fleet.lua) that takes heartbeats, and since when it does, microseconds. It is written anew when it is gone, or
--          of another run: then others may be gone too, that have not registered again
-- ARGV[1]  the replica's id, INSTANCE#INCARNATION
-- ARGV[2]  the sequence that it has applied
-- ARGV[3]  that record's epoch
-- ARGV[4]  that record's nonce
-- ARGV[5]  the replica's version
-- ARGV[6]  "1": other incarnations of the instance have left ("left MICROSECONDS"), since what they held died with them
-- ARGV[7]  LEASE
-- ARGV[8]  with ARGV[6] "1": microseconds after which it is forgotten that a replica has left
--
-- Returns {"ok" or "doubt", BEAT, sequence of the newest record or "0", sequence of the oldest or "0"}.

local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000000 + time[2])
local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
local function value(entry, name)
	for i = 1, #entry[2], 2 do
		if entry[2][i] == name then
			return entry[2][i + 1]
		end
	end
	return ''
end
if not newest then
	return {'doubt', now, '0', '0'}
end
local head = string.match(newest[1], '^(%d+)')
local mine = redis.call('XRANGE', KEYS[1], ARGV[2] .. '-0', ARGV[2] .. '-0')[1]
local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
local tail = string.match(first[1], '^(%d+)')
local there = mine and value(mine, 'e') == ARGV[3] and value(mine, 'n') == ARGV[4]
local trimmed = value(first, 'e') == ARGV[3] and value(first, 'p') == ARGV[2] and value(first, 'q') == ARGV[4]
if not there and not trimmed then
	return {'doubt', now, head, tail}
end
if ARGV[6] == '1' then
	local instance = string.match(ARGV[1], '^(.*)#')
	local all = redis.call('HGETALL', KEYS[2])
	for i = 1, #all, 2 do
		local id, left = all[i], string.match(all[i + 1], '^left (%d+)')
		if left and tonumber(now) - tonumber(left) > tonumber(ARGV[8]) then
			redis.call('HDEL', KEYS[2], id)
		elseif not left and id ~= ARGV[1] and string.match(id, '^(.*)#') == instance then
			redis.call('HSET', KEYS[2], id, 'left ' .. now)
		end
	end
end
if string.match(redis.call('HGET', KEYS[2], ARGV[1]) or '', '^left %d+ itself') then
	return {'ok', now, head, tail} -- it was sent before the replica left, and comes after that
end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2] .. ' ' .. ARGV[3] .. ' ' .. now .. ' ' .. ARGV[7] .. ' ' .. ARGV[5])
local info = redis.pcall('INFO', 'server')
local run = type(info) == 'string' and string.match(info, 'run_id:(%x+)') or '-'
local known, since = string.match(redis.call('HGET', KEYS[2], 'run') or '', '^(%S+) (%d+)$')
if known ~= run or tonumber(since) > tonumber(now) then
	redis.call('HSET', KEYS[2], 'run', run .. ' ' .. now)
end
return {'ok', now, head, tail}
