#!lua flags=allow-oom
-- Appends name this task no more.
-- keys: subs
-- args: subscriber

redis.call('SREM', K.subs, A.subscriber)
return { 'OK' }
