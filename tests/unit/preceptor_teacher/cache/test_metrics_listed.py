"""docs/caching.md lists exactly the metrics that the cache tells."""

from __future__ import annotations

import re
from pathlib import Path

from preceptor_teacher.cache.memory import MemoryTier
from preceptor_teacher.cache.meters import CacheCollector
from preceptor_teacher.cache.secrets import TenantSecrets
from preceptor_teacher.cache.tiers import ScoreCache

PAGE = Path(__file__).parents[4] / "docs" / "caching.md"
ROW = re.compile(r"^\| (preceptor_\w+) \| (\w+) \| (\w*)\s*\| .+ \|$", re.MULTILINE)


def test_the_page_and_the_collector_agree():
    told = {}
    for family in CacheCollector(ScoreCache(MemoryTier(0), None, TenantSecrets(b""))).collect():
        labels = {name for sample in family.samples for name in sample.labels}
        assert len(family.samples) == len({tuple(sample.labels.items()) for sample in family.samples})
        told[family.samples[0].name] = (family.type, ",".join(labels))
    listed = {name: (kind, labels) for name, kind, labels in ROW.findall(PAGE.read_text(encoding="utf-8"))}
    assert told == listed
