"""docs/metrics.md lists exactly the metrics that there are, with their kinds and labels."""

from __future__ import annotations

import re
from pathlib import Path

from prometheus_client import Counter, Gauge, Histogram

from preceptor_serving.metrics import Meters

PAGE = Path(__file__).parents[3] / "docs" / "metrics.md"
ROW = re.compile(r"^\| (preceptor_\w+) \| (\w+) \| ([\w, ]*) \| .+ \|$", re.MULTILINE)
KINDS = {Counter: "counter", Gauge: "gauge", Histogram: "histogram"}


def registered() -> dict[str, tuple[str, list[str]]]:
    """Name -> (kind, labels), read off the meters themselves."""
    found = {}
    for metric in vars(Meters()).values():
        if type(metric) in KINDS:
            kind = KINDS[type(metric)]
            name = metric._name + ("_total" if kind == "counter" else "")
            found[name] = (kind, list(metric._labelnames))
    return found


def test_the_page_and_the_registry_agree() -> None:
    rows = ROW.findall(PAGE.read_text().split("| teacher's metric |")[0])
    assert {name: (kind, labels.split(", ")) for name, kind, labels in rows} == registered()


def test_every_name_is_ours_and_exported() -> None:
    page = Meters().text().decode()
    for name in registered():
        assert name.startswith("preceptor_")
        assert f"# TYPE {name} " in page
