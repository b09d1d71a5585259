#!lua flags=allow-oom
-- A new fence that nobody holds, and the end.
-- keys: task ready leases
-- args: flow task_id fence

local row = task_at(K.task)
if not row then return { 'OK', '' } end
if ended(row.state) then return { 'OK', row.state } end
end_lease()
redis.call('ZREM', K.ready, A.task_id)
redis.call('HSET', K.task, 'state', 'cancelled', 'fence', A.fence)
return { 'OK', 'cancelled' }
