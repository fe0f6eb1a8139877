#!lua flags=allow-oom
-- Says that a replica may have sweeps in hand. A full Redis takes it too.
--
-- KEYS[1]  P:{inv}:workers, a set of ids
-- ARGV[1]  the replica's id

return redis.call('SADD', KEYS[1], ARGV[1])
