"""The score cache: what was scored before is answered again, to the bit, without the engine. docs/caching.md has the rules.

pieces   an item -> the smaller items under whose keys its rows are remembered (pure)
planes   rows of a reply -> the rows of one piece, and back (pure)
secrets  one secret for each tenant, from the one in the cache's folder
memory   the tier in memory: least recently used out first
disk     the tier on disk (lmdb), shared by the processes of one machine; environment opens its file
eviction which entries leave the disk
tiers    both of them, and the writer behind
threads  where the disk's work is done
meters   what the cache tells of itself
lookup   one item's keys; a reply to entries and back (pure)
front    what stands before one teacher's queue: look up, keep, share what is in flight
"""

from preceptor_teacher.cache.front import CacheFront, front_of
from preceptor_teacher.cache.meters import watch_cache
from preceptor_teacher.cache.tiers import ScoreCache, open_cache

__all__ = ["CacheFront", "ScoreCache", "front_of", "open_cache", "watch_cache"]
