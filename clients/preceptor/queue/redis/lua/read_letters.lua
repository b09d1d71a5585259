#!lua flags=no-writes,allow-oom
-- Position and letter from `first` to `last`, the oldest first.
-- keys: dead
-- args: first last limit

local found = {}
for _, entry in ipairs(redis.call('XRANGE', K.dead, A.first, A.last, 'COUNT', A.limit)) do
  found[#found + 1] = entry[1]
  found[#found + 1] = entry[2][2]
end
return { 'OK', found }
