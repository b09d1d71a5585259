#!lua
-- Ready from `next_row`; cancelled and dead tasks stay what they are. Strikes and suspicion are kept.
-- keys: task ready leases flows
-- args: flow task_id spec model score suspect_score next_row kept_ms

local old = task_at(K.task, 'suspect', 'strikes', 'model')
if old and (old.state == 'cancelled' or old.state == 'dead') then return { 'OK', old.state } end
local row = { suspect = '0', score = A.score, suspect_score = A.suspect_score }
if old then end_lease() end
new_task(A.next_row)
if old then
  row.suspect = old.suspect
  local model = A.model ~= '' and A.model or old.model
  redis.call('HSET', K.task, 'suspect', old.suspect, 'strikes', old.strikes, 'model', model)
end
-- Its score may have changed with the suspicion that was kept.
redis.call('ZREM', K.ready, A.task_id)
make_ready(row)
return { 'OK', 'ready' }
