#!lua flags=no-writes,allow-oom
-- The bytes, if they are still there.
-- keys: blob
-- args:

return { 'OK', redis.call('GET', K.blob) }
