#!lua
-- 1 when the task is new, 0 when it is there with equal content.
-- keys: task flows
-- args: flow task_id spec model score suspect_score first_row kept_ms

local spec = redis.call('HGET', K.task, 'spec')
if spec and spec ~= A.spec then
  return { 'CONFLICT', 'the task was opened before with other content', 'task_id', A.task_id, '' }
end
if not spec then new_task(A.first_row) end
touch_flow(A.flow)
redis.call('PEXPIRE', K.task, A.kept_ms)
return { 'OK', spec and 0 or 1 }
