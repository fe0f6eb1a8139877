#!lua flags=allow-oom
-- Cancels the first sweep of a record. Both keys lie in one slot; a full Redis takes it too.
--
-- KEYS[1]  P:{inv}:swept, a hash (sweepnotes.go)
-- KEYS[2]  the log (append.lua)
-- ARGV[1]  the record's sequence
-- ARGV[2]  who cancels it
--
-- Returns "ok", also where somebody has done so before; "late" where the first sweep is over; "gone" where the log does not hold the record.

if #redis.call('XRANGE', KEYS[2], ARGV[1] .. '-0', ARGV[1] .. '-0') == 0 then
	return 'gone'
end
local noted = redis.call('HGET', KEYS[1], ARGV[1])
if noted and tonumber(string.match(noted, '"passes":(%d+)') or '0') > 0 then
	return redis.call('HGET', KEYS[1], ARGV[1] .. ':stop') and 'ok' or 'late'
end
redis.call('HSETNX', KEYS[1], ARGV[1] .. ':stop', ARGV[2])
return 'ok'
