#!lua flags=no-writes,allow-oom
-- Every count of a tenant: job, counter, count.
-- keys: usage

local found, fields = {}, redis.call('HGETALL', K.usage)
for i = 1, #fields, 2 do
  local job, counter = string.match(fields[i], '^count:(.*):([^:]+)$')
  if job then found[#found + 1] = { job, counter, fields[i + 1] } end
end
return { 'OK', found }
