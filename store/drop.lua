-- Takes entries that are gone out of an index, but for those that were entered again since their score was read.
--
-- KEYS[1]  the index (index.lua)
-- ARGV     key of an entry, its score as it was read; and so on
--
-- Returns how many were taken out.

local n = 0
for i = 1, #ARGV, 2 do
	local score = redis.call('ZSCORE', KEYS[1], ARGV[i])
	if score and tonumber(score) == tonumber(ARGV[i + 1]) then
		n = n + redis.call('ZREM', KEYS[1], ARGV[i])
	end
end
return n
