#!lua flags=no-writes,allow-oom
-- Members whose time is over, and members of tasks that are gone; the oldest first.
-- keys: leases
-- args: limit

return { 'OK', redis.call('ZRANGEBYSCORE', K.leases, '-inf', now_ms, 'LIMIT', 0, A.limit) }
