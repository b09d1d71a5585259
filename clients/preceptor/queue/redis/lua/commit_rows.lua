#!lua
-- Rows into `out`, the position, the lease kept, released or finished, and what the rows cost and count: state, next row, end of
-- the lease.
-- keys: task ready leases flows out quota usage
-- derives: blob
-- args: flow task_id fence op scored_upto later lease_ms kept_ms blob_ms effect spent_tokens window_s counts
-- args: max_jobs other_jobs usage_ms
-- list: has_rows start stop entry blob

-- One reservation at what it took. One that has ended stays as it ended; what has left the window counts no more.
local function settle_quota()
  local text = A.effect ~= '' and redis.call('HGET', K.quota, 'h' .. A.effect)
  if not text then return end
  local hold = hold_at(text)
  if hold.expires_ms <= now_ms then return end
  redis.call('HDEL', K.quota, 'h' .. A.effect)
  local spent = 's' .. string.format('%.0f', hold.second)
  if math.abs(math.floor(now_ms / 1000) - hold.second) <= tonumber(A.window_s) and redis.call('HEXISTS', K.quota, spent) == 1 then
    redis.call('HINCRBY', K.quota, spent, string.format('%.0f', A.spent_tokens - hold.tokens))
  end
end

local row = task_at(K.task, 'fence', 'op', 'next_row', 'leased_row', 'scored_upto', 'dirty', 'score', 'suspect_score', 'expires_ms')
-- The reply to this very commit was lost: it is done.
if row and row.op == A.op then return { 'OK', row.state, row.next_row, row.expires_ms } end
local refused = fenced(row)
if refused then return refused end

local at, leased_row = tonumber(row.next_row), tonumber(row.leased_row)
local fresh, last, blobs = {}, at, NAMED_KEYS
for i = REST + 1, #ARGV, 5 do
  local start, stop, blob_key = tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2]), nil
  if ARGV[i + 4] ~= '' then
    blobs = blobs + 1
    blob_key = KEYS[blobs]
  end
  -- Rows that this lease has committed before are a repeat; they are whole or a mistake.
  if not (leased_row <= start and start < stop and stop <= at) then
    if ARGV[i] == '1' and start ~= at then return { 'GAP', start, at } end
    fresh[#fresh + 1] = { ARGV[i + 3], blob_key, ARGV[i + 4] }
    at = math.max(at, stop)
  end
  last = math.max(last, stop)
end
if tonumber(A.scored_upto) < tonumber(row.scored_upto) then return { 'BACK', A.scored_upto, row.scored_upto } end

for _, each in ipairs(fresh) do add_result(each[1], each[2], each[3]) end
-- It got somewhere: whoever died, it was not for these rows.
redis.call('HSET', K.task, 'next_row', last, 'scored_upto', A.scored_upto, 'suspect', 0, 'op', A.op)
settle_quota()
local job = string.match(A.flow, ':(.*)$')
for counter, count in string.gmatch(A.counts, '(%S+) (%d+)') do count_usage(job, counter, count) end
if A.counts ~= '' then redis.call('PEXPIRE', K.usage, A.usage_ms) end
if A.later == 'keep' then return { 'OK', 'leased', last, renew(K.task, member()) } end
end_lease()
local state = A.later == 'finish' and 'finished' or 'idle'
redis.call('HSET', K.task, 'alone', 0, 'state', state)
if state == 'idle' and row.dirty == '1' then
  state = 'ready'
  make_ready({ suspect = '0', score = row.score })
end
redis.call('PEXPIRE', K.task, A.kept_ms)
return { 'OK', state, last, 0 }
