#!lua
-- One entry at its offset; the log's length afterwards and its subscribers.
-- keys: ids subs
-- args: offset stop kind plane_at payload finish_reason kept_ms

local offset, stop = tonumber(A.offset), tonumber(A.stop)
local length, closed = log_end()

-- Ids of a stored entry between two log offsets.
local function ids_of(entry, from, upto)
  local plane_at = entry.at + (from - entry.offset) * 4
  return string.sub(entry.p, plane_at + 1, plane_at + (upto - from) * 4)
end

-- A duplicate may be cut otherwise than what is stored; it is one when every token and its kind are equal.
local function equals_stored()
  for _, raw in ipairs(log_entries(offset, stop .. '-0')) do
    local entry = log_entry(raw)
    local from, upto = math.max(offset, entry.offset), math.min(stop, entry.stop)
    local plane_at = A.plane_at + (from - offset) * 4
    local ours = string.sub(A.payload, plane_at + 1, plane_at + (upto - from) * 4)
    if from < upto and (entry.k ~= A.kind or ids_of(entry, from, upto) ~= ours) then return false end
  end
  return true
end

if offset > length then return { 'GAP', offset, length } end
if A.finish_reason ~= '0' then
  if offset < length then return { 'CONFLICT', 'a log is closed at its end', 'offset', offset, length } end
  if closed ~= 0 and closed ~= tonumber(A.finish_reason) then
    return { 'CONFLICT', 'the log was closed for another reason', 'finish_reason', A.finish_reason, closed }
  end
  if closed == 0 then
    redis.call('XADD', K.ids, (length + 1) .. '-0', 'p', A.payload, 'k', A.kind, 'n', 0, 'f', A.finish_reason)
  end
elseif offset < length then
  if not equals_stored() then return { 'CONFLICT', 'the log holds other tokens there', 'offset', offset, length } end
  if stop > length then return { 'GAP', offset, length } end
else
  if closed ~= 0 then return { 'CONFLICT', 'the log is closed', 'offset', offset, length } end
  redis.call('XADD', K.ids, (offset + 1) .. '-0', 'p', A.payload, 'k', A.kind, 'n', stop - offset, 'at', A.plane_at)
  length = stop
end
redis.call('PEXPIRE', K.ids, A.kept_ms)
redis.call('PEXPIRE', K.subs, A.kept_ms)
redis.call('PUBLISH', K.ids, '')
return { 'OK', length, redis.call('SMEMBERS', K.subs) }
