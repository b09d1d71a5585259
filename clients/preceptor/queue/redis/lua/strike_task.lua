#!lua flags=allow-oom
-- A death makes a task suspect, and counts if it ran alone; anything else counts. Too many, and it is a dead letter.
-- `expired`: only if the lease has run out by now, because its holder may have renewed it in the meantime.
-- keys: task ready leases flows out dead
-- args: flow task_id fence op death expired strikes letter told reason kept_ms letters_ms

local row = task_at(K.task, 'fence', 'op', 'alone', 'strikes', 'suspect', 'score', 'suspect_score', 'expires_ms')
if row and row.op == A.op then return { 'OK', row.state } end
local refused = fenced(row)
if refused then return refused end
if A.expired == '1' and tonumber(row.expires_ms) > now_ms then return { 'FENCED', 'renewed' } end

local strikes = tonumber(row.strikes)
if A.death == '0' or row.alone == '1' then strikes = strikes + 1 end
if A.death == '1' then row.suspect = '1' end
end_lease()
redis.call('HSET', K.task, 'strikes', strikes, 'suspect', row.suspect, 'op', A.op)
if strikes < tonumber(A.strikes) then
  make_ready(row)
  return { 'OK', 'ready' }
end
redis.call('HSET', K.task, 'state', 'dead', 'error', A.reason, 'alone', 0)
redis.call('XADD', K.dead, '*', 'p', A.letter)
redis.call('PEXPIRE', K.dead, A.letters_ms)
redis.call('PEXPIRE', K.task, A.letters_ms) -- so that the letter can be replayed from where the task was
add_result(A.told, nil, '')
return { 'OK', 'dead' }
