#!lua flags=allow-oom
-- Takes the oldest records out of the log, never its last, and keeps in the history what was asked for and what came of it: both or
-- neither. All keys lie in one slot; a full Redis takes it too.
--
-- KEYS[1]  the log (append.lua)
-- KEYS[2]  P:{inv}:swept, a hash (sweepnotes.go)
-- KEYS[3]  P:{inv}:history, a stream. An entry's ID is "SEQ-0"; its fields are e, n, b and r as in the log, r perhaps shortened, and o (the note of
--          its sweep, JSON, "" = none)
-- ARGV[1]  how many the history holds, about
-- ARGV[2]  the sequence before which it holds none
-- ARGV[3]  of the records, in their order, from the first of the log on: the sequence; and then
-- ARGV[4]  what the history is to have as r; "" = it is not to have the record
--          ... and so on
--
-- Returns why the history could not take one, or "". The log is trimmed all the same: it must not grow without end.

local failed, from, last = '', '-', nil
local length = redis.call('XLEN', KEYS[1])
for i = 3, #ARGV, 2 do
	local seq, text = ARGV[i], ARGV[i + 1]
	local entry = redis.call('XRANGE', KEYS[1], from, '+', 'COUNT', 1)[1]
	if length <= 1 or not entry or entry[1] ~= seq .. '-0' then
		break -- somebody else is at it
	end
	if text ~= '' then
		local value = {e = '', n = '', b = '0'}
		for j = 1, #entry[2], 2 do
			value[entry[2][j]] = entry[2][j + 1]
		end
		local noted = redis.call('HGET', KEYS[2], seq) or ''
		local reply = redis.pcall('XADD', KEYS[3], 'MAXLEN', '~', ARGV[1], entry[1], 'e', value.e, 'n', value.n, 'b', value.b, 'r', text, 'o', noted)
		if type(reply) == 'table' and reply.err then
			failed = reply.err
		end
	end
	redis.call('HDEL', KEYS[2], seq, seq .. ':again', seq .. ':stop')
	from, last, length = '(' .. entry[1], seq, length - 1
end
if last then
	redis.call('XTRIM', KEYS[1], 'MINID', last .. '-1')
end
redis.pcall('XTRIM', KEYS[3], 'MINID', '~', ARGV[2])
return failed
