#!lua flags=allow-oom
-- Notes how far the sweep of a record is, unless the log has forgotten the record, or more passes are noted, or as many where it ends: a replica
-- that was stopped meanwhile may be late, and has found less than who came instead. All keys lie in one slot; a full Redis takes it too.
--
-- KEYS[1]  P:{inv}:swept, a hash (sweepnotes.go)
-- KEYS[2]  the log (append.lua)
-- KEYS[3]  the list of what the replica has in hand
-- ARGV[1]  the record's sequence
-- ARGV[2]  the note, JSON
-- ARGV[3]  "1": the replica is done with it, and has it in hand no more
--
-- Returns {"1" or "0": whether the log holds the record, who cancelled the sweep or ""}.

local function passes(note)
	return tonumber(string.match(note or '', '"passes":(%d+)') or '0')
end

local there = #redis.call('XRANGE', KEYS[2], ARGV[1] .. '-0', ARGV[1] .. '-0') > 0
local more = passes(ARGV[2]) - passes(redis.call('HGET', KEYS[1], ARGV[1]))
if there and (more > 0 or more == 0 and ARGV[3] ~= '1') then
	redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
end
if ARGV[3] == '1' then
	redis.call('LREM', KEYS[3], 1, ARGV[1])
end
return {there and '1' or '0', redis.call('HGET', KEYS[1], ARGV[1] .. ':stop') or ''}
