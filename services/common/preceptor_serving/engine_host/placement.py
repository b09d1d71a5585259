"""Where a service's engines run: in processes of their own, or in its own process for `--inline` and breakpoints."""

from __future__ import annotations

from typing import Protocol

from preceptor.errors import Unsupported
from preceptor_serving.engine_host.channel import EngineChannel, EngineSpec
from preceptor_serving.engine_host.inline import InlineEngine
from preceptor_serving.engine_host.policy import HostPolicy
from preceptor_serving.engine_host.watched import watched_host
from preceptor_serving.engines.registry import create_engine
from preceptor_serving.service import ServiceContext


class PlaceEngine(Protocol):
    """Makes the way to one engine; the service starts and stops it."""

    def __call__(self, spec: EngineSpec, context: ServiceContext) -> EngineChannel: ...


def in_child_process(spec: EngineSpec, context: ServiceContext) -> EngineChannel:
    """Restarted when it dies; the service's probes and metrics tell how it is."""
    return watched_host(spec, HostPolicy(), context)


def in_this_process(spec: EngineSpec, context: ServiceContext) -> EngineChannel:
    """In a thread: a crash takes everything with it, and what the environment says is everybody's."""
    if spec.environ:
        raise Unsupported(
            f"{spec.name} is to see some GPUs only, which takes a process of its own",
            field=f"teachers.{spec.name}.gpus",
            value=", ".join(f"{name}={value}" for name, value in spec.environ.items()),
            limit="engines in processes of their own",
            hint="leave gpus away and say device, or run the services as processes",
        )
    return InlineEngine(lambda: create_engine(spec.engine, spec.options))
