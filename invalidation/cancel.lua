#!lua flags=allow-oom
-- Cancels the first sweep of a record. Both keys lie in one slot; a full Redis takes it too.
--
-- KEYS[1]  P:{inv}:swept, a hash (sweepnotes.go)
-- KEYS[2]  the log (append.lua)
-- ARGV[1]  the record's sequence
-- ARGV[2]  who cancels it
--
-- Returns "ok", also where somebody has done so before; "late" where the first sweep is over and was not cancelled, or the second is; "gone" where
-- the log does not hold the record.

if #redis.call('XRANGE', KEYS[2], ARGV[1] .. '-0', ARGV[1] .. '-0') == 0 then
	return 'gone'
end
local noted = redis.call('HGET', KEYS[1], ARGV[1]) or ''
local passes = tonumber(string.match(noted, '"passes":(%d+)') or '0')
if passes > 0 then -- it may have come to its end before it heard of a cancelling
	return passes == 1 and string.find(noted, '"cancelled":', 1, true) and 'ok' or 'late'
end
redis.call('HSETNX', KEYS[1], ARGV[1] .. ':stop', ARGV[2])
return 'ok'
