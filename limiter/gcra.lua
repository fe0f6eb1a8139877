#!lua flags=allow-oom
-- Fills a bucket that drains: the generic cell rate algorithm. A full Redis counts too.
--
-- KEYS[1]  the bucket, P:r:{LIMIT:CLIENT}: a hash of
--          l  its level, in token-windows: tokens times window, so that what drains in a tick is a whole number, limit
--          t  when it was so, by Redis TIME in ticks
-- ARGV[1]  limit: tokens that drain in a window
-- ARGV[2]  window, in ticks
-- ARGV[3]  burst: tokens that the bucket holds; limit * window and burst * window are at most 2^52
-- ARGV[4]  microseconds of a tick
-- ARGV[5]  cost: tokens needed, 0 = none
-- ARGV[6]  need: tokens wanted beside, as many of them as there are
-- ARGV[7]  most: tokens wanted in all
-- ARGV[8]  owed: tokens to count in any case
-- ARGV[9]  back: tokens to give back
-- ARGV[10] tag: not used here
--
-- Returns {granted, left, retry, reset, 0}, times in ticks from now: see arithmetic.go, which does the same.

local limit, window, burst, tick = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local cost, need, most = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local owed, back = tonumber(ARGV[8]), tonumber(ARGV[9])

local time = redis.call('TIME')
local now = math.floor((time[1] * 1000000 + time[2]) / tick)

local held = redis.pcall('HMGET', KEYS[1], 'l', 't')
if held.err or not held[1] then -- nothing, or what a limit with another algorithm has counted
	redis.call('UNLINK', KEYS[1])
	held = {}
end
local level, at = tonumber(held[1] or 0), tonumber(held[2] or 0)
local size = burst * window
level = math.min(size, level) -- a bucket that was larger before is not fuller than full
if now - at > math.floor(level / limit) then
	level = 0
elseif now > at then -- else the clock was set back, and it drains from here
	level = level - (now - at) * limit
end
level = math.max(0, level - back * window)
level = math.min(size, level + owed * window)

local granted, room = 0, math.floor((size - level) / window)
if cost > 0 and cost <= room then
	local kept = math.floor((burst + 9) / 10)
	granted = cost + math.min(need, room - cost)
	granted = granted + math.max(0, math.min(most - granted, math.floor((room - granted - kept) / 2)))
end
level = level + granted * window
if granted > 0 or owed > 0 or back > 0 or now < at then
	redis.call('HSET', KEYS[1], 'l', string.format('%.0f', level), 't', string.format('%.0f', now))
	redis.call('PEXPIRE', KEYS[1], string.format('%.0f', math.max(1, math.ceil(math.ceil(level / limit) * tick / 1000))))
end

local retry = 0
if granted < cost then
	retry = math.ceil((level + cost * window - size) / limit)
end
return {granted, math.floor((size - level) / window), retry, math.ceil(level / limit), 0}
