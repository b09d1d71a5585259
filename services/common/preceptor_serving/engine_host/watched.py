"""An engine host whose health shows in its service's probes and metrics."""

from __future__ import annotations

import math

from preceptor_serving.engine_host.channel import EngineSpec
from preceptor_serving.engine_host.host import EngineHost, OnHealth
from preceptor_serving.engine_host.policy import HostPolicy
from preceptor_serving.service import ServiceContext


def watched_host(spec: EngineSpec, policy: HostPolicy, context: ServiceContext, *, blocks: bool = True) -> EngineHost:
    """A host that is not started yet. `blocks`: without this engine the service answers nothing."""
    host = EngineHost(spec, policy, _reporter(spec.name, context, blocks=blocks))
    meters = context.meters
    meters.engine_calls.labels(spec.name).set_function(lambda: host.open_calls)
    meters.engine_starting.labels(spec.name).set_function(lambda: host.starting)
    meters.engine_heard.labels(spec.name).set_function(lambda: math.nan if host.heard_s is None else host.heard_s)
    return host


def _reporter(name: str, context: ServiceContext, *, blocks: bool) -> OnHealth:
    trouble = f"engine:{name}"
    up, restarts = context.meters.engine_up.labels(name), context.meters.engine_restarts.labels(name)

    def report(why_down: str | None) -> None:
        if why_down is not None:
            up.set(0)
            context.lifecycle.trouble(trouble, why_down, blocks=blocks)
        else:
            up.set(1)
            if context.lifecycle.clear(trouble):
                restarts.inc()

    return report
