#!lua flags=allow-oom
-- Counts requests in two windows, of which the one before counts by the share of it that is not longer ago than a window. A full Redis counts
-- too.
--
-- KEYS[1]  the counter, P:r:{LIMIT:CLIENT}: a hash of
--          n  the number of the window: Redis TIME in ticks, divided by window
--          c  tokens granted in it
--          p  tokens granted in the window before
-- ARGV[1]  limit: tokens in a window
-- ARGV[2]  window, in ticks; limit * window is at most 2^52
-- ARGV[3]  burst: not used here
-- ARGV[4]  microseconds of a tick
-- ARGV[5]  cost: tokens needed, 0 = none
-- ARGV[6]  need: tokens wanted beside, as many of them as there are
-- ARGV[7]  most: tokens wanted in all
-- ARGV[8]  owed: tokens to count in any case
-- ARGV[9]  back: tokens to give back, which were granted in the window of the number
-- ARGV[10] tag
--
-- Returns {granted, left, retry, reset, tag}, times in ticks from now: see arithmetic.go, which does the same.

local limit, window, tick = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[4])
local cost, need, most, owed = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local back, tag = tonumber(ARGV[9]), tonumber(ARGV[10])

local time = redis.call('TIME')
local now = math.floor((time[1] * 1000000 + time[2]) / tick)
local number = math.floor(now / window)
local elapsed = now - number * window

local held = redis.pcall('HMGET', KEYS[1], 'n', 'c', 'p')
if held.err or not held[1] then -- nothing, or what a limit with another algorithm has counted
	redis.call('UNLINK', KEYS[1])
	held = {}
end
local of, count, previous = tonumber(held[1] or 0), tonumber(held[2] or 0), tonumber(held[3] or 0)
if of == number - 1 then
	count, previous = 0, count
elseif of ~= number then
	count, previous = 0, 0
end
if tag == number then
	count = math.max(0, count - back)
elseif tag == number - 1 then
	previous = math.max(0, previous - back)
end
count = count + owed

local weighed = math.ceil(previous * (window - elapsed) / window)
local granted, room = 0, limit - count - weighed
if cost > 0 and cost <= room then
	local kept = math.floor((limit + 9) / 10)
	granted = cost + math.min(need, room - cost)
	granted = granted + math.max(0, math.min(most - granted, math.floor((room - granted - kept) / 2)))
end
count = count + granted
if granted > 0 or owed > 0 or back > 0 then
	redis.call('HSET', KEYS[1], 'n', string.format('%.0f', number), 'c', string.format('%.0f', count), 'p', string.format('%.0f', previous))
	redis.call('PEXPIRE', KEYS[1], string.format('%.0f', math.ceil((2 * window - elapsed) * tick / 1000)))
end

local retry, reset = 0, 0
if count > 0 then
	reset = 2 * window - elapsed
elseif previous > 0 then
	reset = window - elapsed
end
if granted < cost then
	if limit - count - cost >= 0 then
		retry = window - elapsed - math.floor((limit - count - cost) * window / previous)
	else
		retry = 2 * window - elapsed - math.floor((limit - cost) * window / count)
	end
end
return {granted, math.max(0, limit - count - weighed), retry, reset, number}
