-- What every script has: the moment it runs at, and the moves between states that several scripts share.
-- K has its keys by kind, A its arguments by name; ARGV[REST + 1] is the first of a list that follows them.
-- Scripts decide first and write afterwards: a server runs them alone, but it does not undo half of one.

local now_ms = tonumber(A.now_ms)
if not now_ms then
  local time = redis.call('TIME')
  now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
end
local repeated = tonumber(A.attempt) > 1

-- The named fields of a task, or nil when nobody knows it.
local function task_at(key, ...)
  local names = { 'state', ... }
  local values = redis.call('HMGET', key, unpack(names))
  if not values[1] then return nil end
  local row = {}
  for i, name in ipairs(names) do row[name] = values[i] end
  return row
end

-- A task as callers see it: these fields in this order, which `replies.py` reads. Half as much to parse as a whole hash.
local function shown(key)
  return redis.call('HMGET', key, 'spec', 'state', 'dirty', 'suspect', 'alone', 'strikes', 'scored_upto', 'next_row', 'fence',
    'expires_ms', 'worker', 'model', 'error')
end

-- Whether the state is an end.
local function ended(state)
  return state == 'finished' or state == 'cancelled' or state == 'dead'
end

-- The refusal for a caller whose fence is not the task's, or nil.
local function fenced(row)
  if row and row.state == 'leased' and row.fence == A.fence then return nil end
  return { 'FENCED', row and row.state or 'gone' }
end

local function member()
  return A.flow .. ':' .. A.task_id
end

local function touch_flow(flow)
  redis.call('HSET', K.flows, flow .. ':touched', now_ms)
end

local function new_task(next_row)
  redis.call('DEL', K.task)
  redis.call('HSET', K.task, 'spec', A.spec, 'state', 'idle', 'dirty', 1, 'suspect', 0, 'alone', 0, 'strikes', 0,
    'scored_upto', 0, 'next_row', next_row, 'leased_row', 0, 'fence', '', 'expires_ms', 0, 'lease_ms', 0, 'worker', '',
    'model', A.model, 'error', '', 'op', '', 'score', A.score, 'suspect_score', A.suspect_score)
end

-- Into the ready set, without a lease. Only a task that was not in it wakes the workers.
local function make_ready(row)
  redis.call('HSET', K.task, 'state', 'ready', 'fence', '', 'alone', 0, 'worker', '', 'expires_ms', 0)
  local score = row.suspect == '1' and row.suspect_score or row.score
  local added = redis.call('ZADD', K.ready, score, A.task_id)
  redis.call('PEXPIRE', K.task, A.kept_ms)
  redis.call('PEXPIRE', K.ready, A.kept_ms)
  touch_flow(A.flow)
  if added == 1 then redis.call('PUBLISH', K.flows, '') end
end

-- Whoever held it holds nothing.
local function end_lease()
  redis.call('ZREM', K.leases, member())
  redis.call('HSET', K.task, 'fence', '', 'expires_ms', 0)
end

-- When the lease ends from now on. Its length stands beside it: after a clock that went back, that is what counts.
local function renew(task_key, name)
  local expires_ms = now_ms + A.lease_ms
  redis.call('HSET', task_key, 'expires_ms', expires_ms, 'lease_ms', A.lease_ms)
  redis.call('ZADD', K.leases, expires_ms, name)
  redis.call('PEXPIRE', task_key, A.kept_ms)
  return expires_ms
end

-- A reservation of a tenant's quota as its field says it; every owner stands between two commas.
local function hold_at(text)
  local expires_ms, second, tokens, places, owners = string.match(text, '^(%S+) (%S+) (%S+) (%S+) (%S+)$')
  return { expires_ms = tonumber(expires_ms), second = tonumber(second), tokens = tonumber(tokens), places = tonumber(places),
    owners = owners }
end

-- Adds to the counts of one job. Further jobs of a tenant that has too many are counted as one.
local function count_usage(job, counter, count)
  if redis.call('HEXISTS', K.usage, 'job:' .. job) == 0 then
    local jobs = tonumber(redis.call('HGET', K.usage, 'jobs') or 0)
    if jobs >= tonumber(A.max_jobs) then
      job = A.other_jobs
    else
      redis.call('HSET', K.usage, 'job:' .. job, 1, 'jobs', jobs + 1)
    end
  end
  redis.call('HINCRBY', K.usage, 'count:' .. job .. ':' .. counter, count)
end

-- What a key holds, counted; nothing where it is of another type: one job's broken key must not hide the others.
local function size(command, key, ...)
  local found = redis.pcall(command, key, ...)
  return type(found) == 'number' and found or 0
end

-- Bytes that wait for the learner. An empty stream has none, whatever was counted: a lost stream must not block its job.
local function unread_bytes(flow, out)
  if size('XLEN', out) == 0 then return 0 end
  return tonumber(redis.call('HGET', K.flows, flow .. ':unread') or 0)
end

local function add_result(entry, blob_key, blob)
  local unread = unread_bytes(A.flow, K.out) + #entry + #blob
  redis.call('HSET', K.flows, A.flow .. ':unread', unread)
  touch_flow(A.flow)
  if blob_key then redis.call('SET', blob_key, blob, 'PX', A.blob_ms) end
  redis.call('XADD', K.out, '*', 'p', entry)
  redis.call('PEXPIRE', K.out, A.kept_ms)
  redis.call('PUBLISH', K.out, '')
end

-- One entry of a log by its fields: p the message, k its kind, n its tokens, at where their ids begin in p, f why it ends.
local function log_entry(entry)
  local found = { offset = tonumber(string.match(entry[1], '^%d+')) - 1 }
  for i = 1, #entry[2], 2 do found[entry[2][i]] = entry[2][i + 1] end
  found.stop = found.offset + found.n
  return found
end

-- Length of a log, and why it was closed (0: it is open).
local function log_end()
  local last = redis.call('XREVRANGE', K.ids, '+', '-', 'COUNT', 1)[1]
  if not last then return 0, 0 end
  local entry = log_entry(last)
  return entry.stop, tonumber(entry.f or 0)
end

-- Entries from the one that holds `offset` on, up to the one that holds `last`.
local function log_entries(offset, last)
  local first = redis.call('XREVRANGE', K.ids, (offset + 1) .. '-0', '-', 'COUNT', 1)[1]
  if not first then return {} end
  return redis.call('XRANGE', K.ids, first[1], last)
end
