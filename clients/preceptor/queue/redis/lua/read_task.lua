#!lua flags=no-writes,allow-oom
-- The hash, untouched.
-- keys: task
-- args:

return { 'OK', shown(K.task) }
