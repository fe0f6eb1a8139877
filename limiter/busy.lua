#!lua flags=allow-oom
-- Adds to who has asked most in this minute, and keeps the first of them alone. A full Redis takes it too.
--
-- KEYS[1]  P:r:{LIMIT}:asked:MINUTE, a sorted set: clients by requests
-- KEYS[2]  P:r:{LIMIT}:refused:MINUTE, the same by requests that were refused
-- ARGV[1]  how many clients are kept in each
-- ARGV[2]  milliseconds until both are forgotten
-- ARGV[3] and the two that follow, and so on: a client, its requests, and how many of them were refused

for i = 3, #ARGV, 3 do
	redis.call('ZINCRBY', KEYS[1], ARGV[i + 1], ARGV[i])
	if ARGV[i + 2] ~= '0' then
		redis.call('ZINCRBY', KEYS[2], ARGV[i + 2], ARGV[i])
	end
end
for _, key in ipairs(KEYS) do
	redis.call('ZREMRANGEBYRANK', key, 0, -1 - ARGV[1])
	redis.call('PEXPIRE', key, ARGV[2])
end
return 0
