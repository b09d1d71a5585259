#!lua flags=allow-oom
-- After a clock that went back: no lease ends later than its length from now, else a dead worker's task would wait for
-- the clock to come round again. `lease_ms` only bounds the search; each task knows the length of its own lease.
-- keys: leases
-- derives: task
-- args: lease_ms limit

local prefix = string.sub(K.leases, 1, -string.len('leases') - 1)
local late = redis.call('ZRANGEBYSCORE', K.leases, '(' .. (string.format('%.0f', now_ms + A.lease_ms)), '+inf', 'LIMIT', 0, A.limit)
for _, name in ipairs(late) do
  local flow, task_id = string.match(name, '^([^:]+:[^:]+):(.*)$')
  local key = prefix .. flow .. ':task:' .. task_id
  local row = task_at(key, 'lease_ms', 'expires_ms')
  if row and row.state == 'leased' and tonumber(row.expires_ms) > now_ms + row.lease_ms then
    redis.call('HSET', key, 'expires_ms', now_ms + row.lease_ms)
    redis.call('ZADD', K.leases, now_ms + row.lease_ms, name)
  end
end
return { 'OK' }
