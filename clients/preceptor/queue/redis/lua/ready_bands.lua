#!lua flags=no-writes,allow-oom
-- Flow, band, ready tasks, suspects and unread bytes wherever a task is ready.
-- keys: flows
-- derives: ready out
-- args: span bands

local prefix = string.sub(K.flows, 1, -string.len('flows') - 1)
local found = {}

local function count(ready, range)
  local low = range * A.span
  return redis.call('ZCOUNT', ready, low, '(' .. string.format('%.0f', low + A.span))
end

local function add_bands(flow)
  local ready, out = prefix .. flow .. ':ready', prefix .. flow .. ':out'
  local left = size('ZCARD', ready)
  local unread = left > 0 and unread_bytes(flow, out)
  for band = 0, A.bands - 1 do
    if left == 0 then return end
    local ordinary, suspects = count(ready, band), count(ready, A.bands + band)
    left = left - ordinary - suspects
    if ordinary + suspects > 0 then found[#found + 1] = { flow, band, ordinary, suspects, unread } end
  end
end

for _, field in ipairs(redis.call('HKEYS', K.flows)) do
  local flow = string.match(field, '^(.*):touched$')
  if flow then add_bands(flow) end
end
return { 'OK', found }
