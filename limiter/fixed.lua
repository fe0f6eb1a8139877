#!lua flags=allow-oom
-- Counts requests in a fixed window, which begins with the first of them. A full Redis counts too.
--
-- KEYS[1]  the counter, P:r:{LIMIT:CLIENT}: a string, INCRBY, whose expiry is the end of the window
-- ARGV[1]  limit: tokens in a window
-- ARGV[2]  window, in milliseconds, at least 2
-- ARGV[3]  burst: not used here
-- ARGV[4]  microseconds of a tick: not used here
-- ARGV[5]  cost: tokens needed, 0 = none
-- ARGV[6]  need: tokens wanted beside, as many of them as there are
-- ARGV[7]  most: tokens wanted in all
-- ARGV[8]  owed: tokens to count in any case
-- ARGV[9]  back: tokens to give back, where the window is that of
-- ARGV[10] tag
--
-- Returns {granted, left, retry, reset, tag}, times in milliseconds from now: see arithmetic.go, which does the same. The tag is when the
-- window ends, in milliseconds since 1970: its first moment after.

local limit, window = tonumber(ARGV[1]), tonumber(ARGV[2])
local cost, need, most, owed = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

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
	elseif ends - now > window then -- of a limit with a longer window: this one is over earlier
		redis.call('PEXPIRE', KEYS[1], string.format('%.0f', window - 1))
		ends = redis.call('PEXPIRETIME', KEYS[1]) + 1
	end
end
local before = tonumber(count or 0)
local used = before
if count and ARGV[10] == string.format('%.0f', ends) then
	used = math.max(0, used - tonumber(ARGV[9]))
end
used = used + owed

local granted, room = 0, limit - used
if cost > 0 and cost <= room then
	local kept = math.floor((limit + 9) / 10)
	granted = cost + math.min(need, room - cost)
	granted = granted + math.max(0, math.min(most - granted, math.floor((room - granted - kept) / 2)))
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
	reset = math.max(1, ends - now)
end
if granted < cost then
	retry = reset
end
return {granted, math.max(0, limit - used), retry, reset, ends}
