#!lua
-- The letter is gone and its task ready with a clean record; empty when the letter was not there.
-- A task that is no longer dead (somebody replayed it, or opened it anew) is left alone.
-- keys: dead task ready flows
-- args: flow task_id letter_id op spec model score suspect_score first_row kept_ms

local row = task_at(K.task, 'op')
if row and row.op == A.op then return { 'OK', row.state } end
if redis.call('XDEL', K.dead, A.letter_id) == 0 then return { 'OK', '' } end
if row and row.state ~= 'dead' then return { 'OK', row.state } end
if not row then new_task(A.first_row) end
redis.call('HSET', K.task, 'strikes', 0, 'suspect', 0, 'dirty', 1, 'error', '', 'op', A.op)
make_ready({ suspect = '0', score = A.score })
return { 'OK', 'ready' }
