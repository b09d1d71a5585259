#!lua flags=allow-oom
-- The hash of a lease that has run out; a member without such a task is removed.
-- keys: task leases
-- args: flow task_id

local row = task_at(K.task, 'expires_ms')
if not row or row.state ~= 'leased' then
  redis.call('ZREM', K.leases, member())
  return { 'OK', {} }
end
if tonumber(row.expires_ms) > now_ms then
  redis.call('ZADD', K.leases, row.expires_ms, member())
  return { 'OK', {} }
end
return { 'OK', shown(K.task) }
