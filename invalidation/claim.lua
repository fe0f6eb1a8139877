#!lua flags=allow-oom
-- Takes a sweep out of the queue, wherever it stands there, into the hands of a replica. Both keys lie in one slot; a full Redis takes it too.
--
-- KEYS[1]  the queue of sweeps
-- KEYS[2]  the list of what the replica has in hand
-- ARGV[1]  the record's sequence
--
-- Returns 1, or 0 where the queue does not have it: somebody else has it in hand.

if redis.call('LREM', KEYS[1], 0, ARGV[1]) == 0 then
	return 0
end
redis.call('RPUSH', KEYS[2], ARGV[1])
return 1
