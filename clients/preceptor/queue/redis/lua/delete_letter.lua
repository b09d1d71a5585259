#!lua flags=allow-oom
-- 0 when it was not there, and no earlier attempt of this call can have deleted it.
-- keys: dead
-- args: letter_id

local deleted = redis.call('XDEL', K.dead, A.letter_id)
return { 'OK', repeated and 1 or deleted }
