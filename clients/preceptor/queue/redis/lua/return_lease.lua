#!lua flags=allow-oom
-- Ready again, as it was.
-- keys: task ready leases flows
-- args: flow task_id fence op kept_ms

local row = task_at(K.task, 'fence', 'op', 'suspect', 'score', 'suspect_score')
if row and row.op == A.op then return { 'OK' } end
local refused = fenced(row)
if refused then return refused end
end_lease()
redis.call('HSET', K.task, 'op', A.op)
make_ready(row)
return { 'OK' }
