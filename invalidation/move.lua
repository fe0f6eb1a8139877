#!lua flags=allow-oom
-- Moves a sweep from one list to another, as LMOVE does, which a full Redis would refuse. Both keys lie in one slot.
--
-- KEYS[1]  from where
-- KEYS[2]  to where
-- ARGV[1]  LEFT or RIGHT: the end from which it is taken
-- ARGV[2]  LEFT or RIGHT: the end at which it is put
--
-- Returns the sequence, or nothing where there is none.

return redis.call('LMOVE', KEYS[1], KEYS[2], ARGV[1], ARGV[2])
