#!lua flags=allow-oom
-- Entries up to a position and blobs are gone and no longer count as unread.
-- keys: out flows
-- derives: blob
-- args: flow upto unread_bound
-- list: blob_bytes

local CHUNK = 64
local before = unread_bytes(A.flow, K.out)
local next_left = redis.call('XRANGE', K.out, '(' .. A.upto, '+', 'COUNT', 1)[1]

local function entry_bytes()
  local sum, from = 0, '-'
  while true do
    local part = redis.call('XRANGE', K.out, from, A.upto, 'COUNT', CHUNK)
    for _, entry in ipairs(part) do sum = sum + #entry[2][2] end
    if #part < CHUNK then return sum end
    from = '(' .. part[#part][1]
  end
end

local after = 0
if next_left then
  local freed = entry_bytes()
  local removed = redis.call('XTRIM', K.out, 'MINID', '=', next_left[1])
  -- Blobs are counted with the entries that name them: a call whose reply was lost finds neither.
  if removed > 0 then
    for i = REST + 1, #ARGV do freed = freed + ARGV[i] end
  end
  after = math.max(0, before - freed)
else
  redis.call('XTRIM', K.out, 'MAXLEN', '=', 0)
end
if #KEYS > NAMED_KEYS then redis.call('UNLINK', unpack(KEYS, NAMED_KEYS + 1)) end
redis.call('HSET', K.flows, A.flow .. ':unread', after)
touch_flow(A.flow)
-- Under its bound again: its ready tasks may be leased.
if before > tonumber(A.unread_bound) and after <= tonumber(A.unread_bound) then redis.call('PUBLISH', K.flows, '') end
return { 'OK' }
