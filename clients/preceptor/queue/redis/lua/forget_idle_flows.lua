#!lua flags=allow-oom
-- Flows without work, results, letters or use for long are no longer listed; their clocks start at the floor again.
-- keys: flows
-- derives: ready out dead
-- args: idle_ms

local prefix = string.sub(K.flows, 1, -string.len('flows') - 1)
local fields = redis.call('HGETALL', K.flows)
local idle = {}
for i = 1, #fields, 2 do
  local flow = string.match(fields[i], '^(.*):touched$')
  if flow and tonumber(fields[i + 1]) < now_ms - A.idle_ms then
    local ready, out, dead = prefix .. flow .. ':ready', prefix .. flow .. ':out', prefix .. flow .. ':dead'
    idle[flow] = size('ZCARD', ready) == 0 and size('XLEN', out) == 0 and size('XLEN', dead) == 0
  end
end
for i = 1, #fields, 2 do
  local flow = string.match(fields[i], '^([^:]+:[^:]+):')
  if flow and idle[flow] then redis.call('HDEL', K.flows, fields[i]) end
end
return { 'OK' }
