#!lua flags=allow-oom
-- Adds counts once, whoever repeats this operation.
-- keys: usage
-- args: op max_jobs other_jobs kept_ms
-- list: job counter count

local REMEMBERED_BYTES = 64 * string.len(A.op)
local done = redis.call('HGET', K.usage, 'ops') or ''
if string.find(done, A.op, 1, true) then return { 'OK' } end

for i = REST + 1, #ARGV, 3 do count_usage(ARGV[i], ARGV[i + 1], ARGV[i + 2]) end
redis.call('HSET', K.usage, 'ops', string.sub(A.op .. done, 1, REMEMBERED_BYTES))
redis.call('PEXPIRE', K.usage, A.kept_ms)
return { 'OK' }
