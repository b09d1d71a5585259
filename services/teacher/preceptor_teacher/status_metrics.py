"""The teacher's figures on /metrics. Of jobs only those stand there that have work now or were served lately."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from preceptor_teacher.status import StatusDesk

Read = Callable[[Any], float | None]
"""None: there is nothing to tell yet."""
ENGINE_LABELS = ("teacher",)
FLOW_LABELS = ("teacher", "tenant", "job", "band")
QUEUE_LABELS = ("teacher", "tenant", "job")

ENGINE_GAUGES: dict[str, tuple[str, Read]] = {
    "waiting_tasks": ("Tasks queued in this process", lambda engine: engine.waiting_tasks),
    "running_tasks": ("Tasks on the engine", lambda engine: engine.running_tasks),
}
ENGINE_COUNTERS: dict[str, tuple[str, Read]] = {
    "computed_tokens": ("Tokens that the engine computed", lambda engine: engine.tokens_computed),
    "reused_tokens": ("Tokens that the engine knew from before", lambda engine: engine.tokens_reused),
}
FLOW_GAUGES: dict[str, tuple[str, Read]] = {
    "flow_queued_tasks": ("Tasks of a job that wait, in one band", lambda flow: flow.queued_tasks),
    "flow_oldest_wait_seconds": ("How long a job's oldest task has waited in this process", lambda flow: flow.oldest_wait_s),
    "flow_eta_seconds": ("When all that a job has waiting now will be served, as far as is known", lambda flow: flow.eta_s),
    "flow_weight": ("A job's part of the teacher beside others", lambda flow: flow.weight),
    "flow_served_tokens": ("Tokens charged to a job while it was known here", lambda flow: flow.served_tokens),
}
QUEUE_GAUGES: dict[str, tuple[str, Read]] = {
    "queue_ready_tasks": ("Tasks of a job that are ready at the durable door", lambda queue: queue.ready_tasks),
    "queue_leased_tasks": ("Tasks of a job that workers hold", lambda queue: queue.leased_tasks),
    "queue_unread_bytes": ("Bytes of results that a job's learner has not read", lambda queue: queue.unread_bytes),
    "queue_dead_letters": ("Tasks of a job that were given up", lambda queue: queue.dead_letters),
}


class StatusCollector(Collector):
    """Reads the figures when somebody scrapes."""

    def __init__(self, desk: StatusDesk) -> None:
        self._desk = desk

    def collect(self) -> Iterator[Metric]:
        engines = list(self._desk.engines())
        yield from _families(GaugeMetricFamily, ENGINE_GAUGES, ENGINE_LABELS, engines)
        yield from _families(CounterMetricFamily, ENGINE_COUNTERS, ENGINE_LABELS, engines)
        yield from _families(GaugeMetricFamily, FLOW_GAUGES, FLOW_LABELS, list(self._desk.flows()))
        yield from _families(GaugeMetricFamily, QUEUE_GAUGES, QUEUE_LABELS, self._desk.queues)


def _families(
    kind: type[GaugeMetricFamily] | type[CounterMetricFamily],
    declared: Mapping[str, tuple[str, Read]],
    labels: tuple[str, ...],
    rows: Any,
) -> Iterator[Metric]:
    for name, (text, read) in declared.items():
        family = kind(f"preceptor_{name}", text, labels=labels)
        for row in rows:
            if (value := read(row)) is not None:
                family.add_metric([str(getattr(row, label)) for label in labels], value)
        yield family
