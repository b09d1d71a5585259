"""What clients of providers tell of themselves on /metrics. docs/api-teachers.md lists it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from preceptor_teacher.api.breaker import Circuit
from preceptor_teacher.api.calls.records import NANO
from preceptor_teacher.api.chat import ChatClient

PREFIX = "preceptor_provider"


class ProviderCollector(Collector):
    """Reads the counts when somebody asks for them. `clients` is live: teacher -> client."""

    def __init__(self, clients: Mapping[str, ChatClient]) -> None:
        self._clients = clients

    def collect(self) -> Iterator[Metric]:
        each = dict(self._clients)
        yield _counter("calls", "Requests sent to a provider, and those answered without one", "outcome", _outcomes(each))
        yield _counter(
            "retries", "Requests that were sent again", "", {(name, ""): one.allowance.again for name, one in each.items()}
        )
        yield _counter("tokens", "Tokens as the provider counted them; cached ones are part of those read", "kind", _tokens(each))
        costs = {(name, ""): one.spent.cost_nano / NANO for name, one in each.items()}
        yield _counter("cost_usd", "What settled calls cost by the operator's price", "", costs)
        turns = [(name, turn, getattr(one.breaker, turn)) for name, one in each.items() for turn in ("opened", "closed")]
        yield _counter("circuit_turns", "How often the circuit opened and closed again", "to", {(n, to): v for n, to, v in turns})
        state = GaugeMetricFamily(f"{PREFIX}_circuit", "1 for the state that the circuit is in", labels=("teacher", "state"))
        for name, one in each.items():
            for circuit in Circuit:
                state.add_metric((name, str(circuit)), float(one.breaker.state is circuit))
        yield state


def _outcomes(clients: Mapping[str, ChatClient]) -> dict[tuple[str, str], int]:
    counted = {(name, outcome): count for name, one in clients.items() for outcome, count in one.outcomes.items()}
    return counted | {(name, "joined"): one.joined for name, one in clients.items()}


def _tokens(clients: Mapping[str, ChatClient]) -> dict[tuple[str, str], int]:
    kinds: Iterable[str] = ("prompt", "completion", "cached")
    return {(name, kind): getattr(one.spent.tokens, kind) for name, one in clients.items() for kind in kinds}


def _counter(name: str, text: str, label: str, values: Mapping[tuple[str, str], Any]) -> CounterMetricFamily:
    """One value for each teacher and value of the label, where there is one."""
    family = CounterMetricFamily(f"{PREFIX}_{name}", text, labels=("teacher", label) if label else ("teacher",))
    for (teacher, kind), value in values.items():
        family.add_metric((teacher, kind) if label else (teacher,), value)
    return family
