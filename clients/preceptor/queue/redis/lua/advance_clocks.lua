#!lua flags=allow-oom
-- The clocks after all charges of one batch: clock = max(clock + settled, floor) + charged.
-- A batch whose reply was lost is sent again under the same number and must not be charged twice, whichever comes first.
-- keys: flows
-- args: op
-- list: flow band settled floor charged

local REMEMBERED_BYTES = 64 * string.len(A.op)
local done = redis.call('HGET', K.flows, 'ops') or ''
local applied = string.find(done, A.op, 1, true)
local clocks = {}
for i = REST + 1, #ARGV, 5 do
  local flow, field = ARGV[i], ARGV[i] .. ':clock:' .. ARGV[i + 1]
  local clock = tonumber(redis.call('HGET', K.flows, field) or 0)
  if not applied then
    clock = math.max(clock + ARGV[i + 2], tonumber(ARGV[i + 3])) + ARGV[i + 4]
    redis.call('HSET', K.flows, field, string.format('%.17g', clock))
    touch_flow(flow)
  end
  clocks[#clocks + 1] = string.format('%.17g', clock)
end
if not applied then redis.call('HSET', K.flows, 'ops', string.sub(A.op .. done, 1, REMEMBERED_BYTES)) end
return { 'OK', clocks }
