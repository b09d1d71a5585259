#!lua flags=allow-oom
-- Dirty, and ready if it was idle; what it is then. A ready set or leases that were lost are filled again by pokes.
-- keys: task ready leases flows
-- args: flow task_id kept_ms

local row = task_at(K.task, 'suspect', 'score', 'suspect_score', 'expires_ms')
if not row then return { 'OK', {} } end
if not ended(row.state) then
  redis.call('HSET', K.task, 'dirty', 1)
  redis.call('PEXPIRE', K.task, A.kept_ms)
  if row.state == 'leased' then
    redis.call('ZADD', K.leases, 'NX', row.expires_ms, member())
  else
    make_ready(row)
  end
end
return { 'OK', shown(K.task) }
