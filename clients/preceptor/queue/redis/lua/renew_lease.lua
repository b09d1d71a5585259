#!lua flags=allow-oom
-- When the lease ends now.
-- keys: task leases
-- args: flow task_id fence lease_ms kept_ms

local refused = fenced(task_at(K.task, 'fence'))
if refused then return refused end
return { 'OK', renew(K.task, member()) }
