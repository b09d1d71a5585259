"""The queue on a Redis-protocol server: Redis 7.0 or newer, or Valkey. What `preceptor up` and every deployment run on.

    queue = await RedisQueue.connect("redis://127.0.0.1:6379/0", password=secret)

Each atomic step is one Lua script (`lua/`) on keys of one slot. `docs/redis.md` says what a server must be and why time,
retries and waiting work as they do.
"""

from preceptor.queue.redis.ledger import RedisLedger
from preceptor.queue.redis.link import Patience
from preceptor.queue.redis.probe import ServerFacts, probe
from preceptor.queue.redis.queue import RedisQueue

__all__ = ["Patience", "RedisLedger", "RedisQueue", "ServerFacts", "probe"]
