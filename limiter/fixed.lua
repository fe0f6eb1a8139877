#!lua flags=allow-oom
-- Counts requests in a fixed window, which begins with the first of them. A full Redis counts too.
--
-- KEYS[1]  the counter, P:r:{LIMIT:CLIENT}: a string, INCRBY, whose expiry is the end of the window
-- ARGV[1]  limit: tokens in a window
-- ARGV[2]  window, in milliseconds, at least 2
-- ARGV[3]  burst: not used here
-- ARGV[4]  milliseconds of a tick: not used here
-- ARGV[5]  cost: tokens needed, 0 = none
-- ARGV[6]  most: tokens wanted, at least cost
-- ARGV[7]  owed: tokens to count in any case
-- ARGV[8]  back: tokens to give back, where the window is that of
-- ARGV[9]  tag
--
-- Returns {granted, left, retry, reset, tag}, times in milliseconds from now: see arithmetic.go, which does the same. The tag is when the
-- window ends, in milliseconds since 1970: its first moment after.

local limit, window = tonumber(ARGV[1]), tonumber(ARGV[2])
local cost, most, owed = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])

local count, ends = redis.pcall('GET', KEYS[1]), 0
if type(count) == 'table' then -- of a limit with another algorithm
	redis.call('UNLINK', KEYS[1])
	count = false
end
if count then
	ends = redis.call('PEXPIRETIME', KEYS[1]) + 1
	if ends == 0 then -- it has no expiry, so that it is none of ours
		redis.call('UNLINK', KEYS[1])
		count = false
	end
end
local before = tonumber(count or 0)
local used = before
if count and ARGV[9] == string.format('%.0f', ends) then
	used = math.max(0, used - tonumber(ARGV[8]))
end
used = used + owed

local granted, room = 0, limit - used
if cost > 0 and cost <= room then
	local kept = math.floor((limit + 9) / 10)
	granted = cost + math.max(0, math.min(most - cost, math.floor((room - cost - kept) / 2)))
end
used = used + granted
if used ~= before then
	redis.call('INCRBY', KEYS[1], string.format('%.0f', used - before))
	if not count then
		redis.call('PEXPIRE', KEYS[1], string.format('%.0f', window - 1)) -- a key is still there in the millisecond of its expiry
		ends = redis.call('PEXPIRETIME', KEYS[1]) + 1
	end
end

local reset, retry = 0, 0
if ends > 0 then
	local time = redis.call('TIME')
	reset = math.max(1, ends - (time[1] * 1000 + math.floor(time[2] / 1000)))
end
if granted < cost then
	retry = reset
end
return {granted, math.max(0, limit - used), retry, reset, ends}
