#!lua flags=allow-oom
-- Position and entry of each result behind a position.
-- keys: out
-- args: after limit kept_ms

local found = {}
for _, entry in ipairs(redis.call('XRANGE', K.out, '(' .. A.after, '+', 'COUNT', A.limit)) do
  found[#found + 1] = entry[1]
  found[#found + 1] = entry[2][2]
end
redis.call('PEXPIRE', K.out, A.kept_ms)
return { 'OK', found }
