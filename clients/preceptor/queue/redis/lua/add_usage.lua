#!lua flags=allow-oom
-- Adds counts once, whoever repeats this operation. Further jobs of a tenant that has too many are counted as one.
-- keys: usage
-- args: op max_jobs other_jobs kept_ms
-- list: job counter count

local REMEMBERED_BYTES = 64 * string.len(A.op)
local done = redis.call('HGET', K.usage, 'ops') or ''
if string.find(done, A.op, 1, true) then return { 'OK' } end

local jobs = tonumber(redis.call('HGET', K.usage, 'jobs') or 0)
for i = REST + 1, #ARGV, 3 do
  local job = ARGV[i]
  if redis.call('HEXISTS', K.usage, 'job:' .. job) == 0 then
    if jobs >= tonumber(A.max_jobs) then
      job = A.other_jobs
    else
      jobs = jobs + 1
      redis.call('HSET', K.usage, 'job:' .. job, 1, 'jobs', jobs)
    end
  end
  redis.call('HINCRBY', K.usage, 'count:' .. job .. ':' .. ARGV[i + 1], ARGV[i + 2])
end
redis.call('HSET', K.usage, 'ops', string.sub(A.op .. done, 1, REMEMBERED_BYTES))
redis.call('PEXPIRE', K.usage, A.kept_ms)
return { 'OK' }
