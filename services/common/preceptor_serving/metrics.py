"""The counters behind /metrics. docs/metrics.md lists every one of them; a test holds the two together.

A new metric is one field of `Meters` and one row of the page. Labels are closed sets: never a tenant's free text.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.gc_collector import GCCollector
from prometheus_client.process_collector import ProcessCollector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)

disable_created_metrics()  # one timestamp series beside every counter doubles the page for nobody


class Meters:
    """One service's metrics in a registry of their own, so that several services can share a process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = self._counter("requests", "Requests by their one outcome", ("door", "method", "code"))
        self.request_seconds = Histogram(
            "preceptor_request_seconds",
            "Time from a request's arrival to its reply",
            ("door", "method"),
            buckets=SECONDS,
            registry=self.registry,
        )
        self.in_flight = self._gauge("in_flight", "Requests being answered", ("door",))
        self.received_bytes = self._counter("received_bytes", "Bytes of request messages", ("door",))
        self.sent_bytes = self._counter("sent_bytes", "Bytes of reply messages", ("door",))
        self.service_state = self._gauge("service_state", "1 for the state that the service is in", ("state",))
        self.engine_up = self._gauge("engine_up", "1 while the engine's process answers", ("engine",))
        self.engine_starting = self._gauge("engine_starting", "1 while the engine's process is being loaded", ("engine",))
        self.engine_heard = self._gauge("engine_heard_seconds", "Since the engine's process last answered", ("engine",))
        self.engine_restarts = self._counter("engine_restarts", "Engine processes started again after a failure", ("engine",))
        self.engine_calls = self._gauge("engine_calls", "Calls that an engine is working on or has queued", ("engine",))
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)

    def text(self) -> bytes:
        """Everything in Prometheus' text format."""
        return generate_latest(self.registry)

    def value(self, name: str, **labels: str) -> float:
        """The current value of one sample; 0 while nothing was counted."""
        return self.registry.get_sample_value(name, labels) or 0.0

    def _counter(self, name: str, text: str, labels: tuple[str, ...]) -> Counter:
        return Counter(f"preceptor_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, labels: tuple[str, ...]) -> Gauge:
        return Gauge(f"preceptor_{name}", text, labels, registry=self.registry)
