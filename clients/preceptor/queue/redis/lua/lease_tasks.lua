#!lua
-- One task for each fence, as far as there are tasks: now, then id and hash of each.
-- A worker whose reply was lost asks again with the same fences and gets the tasks that it holds already.
-- keys: ready leases flows out
-- derives: task
-- args: flow worker alone latest low high unread_bound lease_ms kept_ms
-- list: fence

local prefix = string.sub(K.ready, 1, -string.len('ready') - 1) .. 'task:'
local reply, held = { 'OK', now_ms }, {}

local function add(task_id)
  reply[#reply + 1] = task_id
  reply[#reply + 1] = shown(prefix .. task_id)
end

-- The tasks that an earlier attempt of this call took.
local function find_held()
  local wanted, start = {}, A.flow .. ':'
  for i = REST + 1, #ARGV do wanted[ARGV[i]] = true end
  for _, name in ipairs(redis.call('ZRANGE', K.leases, 0, -1)) do
    if string.sub(name, 1, #start) == start then
      local task_id = string.sub(name, #start + 1)
      local fence = redis.call('HGET', prefix .. task_id, 'fence')
      if fence and wanted[fence] then
        held[fence] = true
        add(task_id)
      end
    end
  end
end

local function next_ready()
  while true do
    local task_id = redis.call('ZRANGEBYSCORE', K.ready, A.low, '(' .. A.high, 'LIMIT', 0, 1)[1]
    if not task_id then return nil end
    redis.call('ZREM', K.ready, task_id)
    local row = task_at(prefix .. task_id, 'model', 'next_row')
    if row and row.state == 'ready' then return task_id, row end
  end
end

if repeated then find_held() end
if unread_bytes(A.flow, K.out) > tonumber(A.unread_bound) then return reply end
for i = REST + 1, #ARGV do
  if not held[ARGV[i]] then
    local task_id, row = next_ready()
    if not task_id then break end
    local model = row.model ~= '' and row.model or A.latest
    redis.call('HSET', prefix .. task_id, 'state', 'leased', 'dirty', 0, 'alone', A.alone, 'worker', A.worker,
      'fence', ARGV[i], 'model', model, 'leased_row', row.next_row)
    renew(prefix .. task_id, A.flow .. ':' .. task_id)
    add(task_id)
  end
end
return reply
