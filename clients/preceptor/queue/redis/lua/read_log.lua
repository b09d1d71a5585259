#!lua flags=allow-oom
-- Length, finish reason (0: open) and the entries from the one that holds `offset` on.
-- keys: ids subs
-- args: offset kept_ms

local offset = tonumber(A.offset)
local length, closed = log_end()
local payloads = {}
if offset < length then
  for _, raw in ipairs(log_entries(offset, '+')) do
    local entry = log_entry(raw)
    if entry.k ~= 'close' then payloads[#payloads + 1] = entry.p end
  end
end
redis.call('PEXPIRE', K.ids, A.kept_ms)
redis.call('PEXPIRE', K.subs, A.kept_ms)
return { 'OK', length, closed, payloads }
