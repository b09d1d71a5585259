#!lua flags=no-writes,allow-oom
-- Of every listed flow: its name, tasks ready, suspects among them, leased, results unread, their bytes, letters, and its clocks.
-- keys: flows leases
-- derives: ready out dead
-- args: suspects_from

local prefix = string.sub(K.flows, 1, -string.len('flows') - 1)
local leased, clocks, names = {}, {}, {}
for _, member in ipairs(redis.call('ZRANGE', K.leases, 0, -1)) do
  local flow = string.match(member, '^([^:]+:[^:]+):')
  leased[flow] = (leased[flow] or 0) + 1
end
local fields = redis.call('HGETALL', K.flows)
for i = 1, #fields, 2 do
  local flow, band = string.match(fields[i], '^(.*):clock:(%d+)$')
  if flow then
    clocks[flow] = clocks[flow] or {}
    table.insert(clocks[flow], band)
    table.insert(clocks[flow], fields[i + 1])
  end
  flow = string.match(fields[i], '^(.*):touched$')
  if flow then names[#names + 1] = flow end
end

local found = {}
for _, flow in ipairs(names) do
  local ready, out = prefix .. flow .. ':ready', prefix .. flow .. ':out'
  found[#found + 1] = { flow, size('ZCARD', ready), size('ZCOUNT', ready, A.suspects_from, '+inf'), leased[flow] or 0,
    size('XLEN', out), unread_bytes(flow, out), size('XLEN', prefix .. flow .. ':dead'), clocks[flow] or {} }
end
return { 'OK', found }
