#!lua
-- From now on appends name this task.
-- keys: subs
-- args: subscriber kept_ms

redis.call('SADD', K.subs, A.subscriber)
redis.call('PEXPIRE', K.subs, A.kept_ms)
return { 'OK' }
