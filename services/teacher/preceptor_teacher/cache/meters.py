"""What the cache tells of itself: on /metrics, and by readiness while its disk fails. docs/caching.md lists it."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from preceptor_serving.service import ServiceContext
from preceptor_teacher.cache.tiers import ScoreCache

PREFIX = "preceptor_score_cache"


class CacheCollector(Collector):
    """Reads the counts when somebody asks for them."""

    def __init__(self, cache: ScoreCache) -> None:
        self._cache = cache

    def collect(self) -> Iterator[Metric]:
        cache, disk = self._cache, self._cache.disk
        hits = {**{str(tier): count for tier, count in cache.hits.items()}, "flight": cache.shared}
        yield _counter("hits", "Items answered without the engine", hits)
        yield _counter("misses", "Items that had to be computed", {"": cache.misses})
        evictions = {"memory": cache.memory.evictions, "disk": disk.counts.evictions if disk else 0}
        yield _counter("evictions", "Entries that made room for others", evictions)
        yield _counter("corrupt", "Entries on disk that did not match their digest", {"": disk.counts.corrupt if disk else 0})
        dropped = cache.dropped + (disk.counts.dropped if disk else 0)
        yield _counter("dropped", "Entries that could not be written to disk", {"": dropped})
        held = GaugeMetricFamily(f"{PREFIX}_bytes", "Bytes that the entries take", labels=("tier",))
        held.add_metric(("memory",), cache.memory.used_bytes)
        held.add_metric(("disk",), disk.used_bytes if disk else 0)
        yield held


def watch_cache(cache: ScoreCache, context: ServiceContext) -> None:
    """Metrics and a probe; a disk that fails degrades the service and blocks nothing."""
    context.meters.registry.register(CacheCollector(cache))
    context.lifecycle.probe("score-cache", lambda: cache.trouble)


def _counter(name: str, text: str, values: dict[str, int]) -> CounterMetricFamily:
    """One value for each tier, or one without a label."""
    labels = () if "" in values else ("tier",)
    family = CounterMetricFamily(f"{PREFIX}_{name}", text, labels=labels)
    for tier, value in values.items():
        family.add_metric((tier,) if labels else (), value)
    return family
