"""What a service is to the frame: one transport-free object, and the calls and routes that lead to it.

A new RPC is a method on the service and one `Rpc` line; a new REST route is one function in a router made by
`door_router`. Both name the scope that a key needs. A door that finds an RPC of the protocol without an `Rpc`, or a route
without a scope, refuses to start.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from preceptor.config.settings import ServiceSettings
from preceptor_serving.auth.identity import Scope
from preceptor_serving.lifecycle.state import Lifecycle
from preceptor_serving.metrics import Meters
from preceptor_serving.quotas.accounts import TermsOf, no_terms

if TYPE_CHECKING:
    from fastapi import APIRouter
    from google.protobuf.descriptor import ServiceDescriptor


@dataclass(frozen=True, slots=True)
class Rpc:
    """One call of the protocol. The handler's shape follows the method's:

    unary reply:      async def handler(request, call) -> reply
    streamed reply:   async def handler(request, call) -> AsyncIterator[reply]   (an async generator)
    streamed request: `request` is an AsyncIterator of messages
    """

    handler: Callable[[Any, Any], Any]
    scope: Scope
    always: bool = False  # answers while the service loads or drains, too


@dataclass(frozen=True, slots=True)
class GrpcService:
    """A service of the protocol and the handler of each of its methods, by name."""

    descriptor: ServiceDescriptor
    rpcs: Mapping[str, Rpc]


def _nobody_stops(reason: str) -> None:
    """Where a block of code is the service's life, nothing but its end stops it."""


@dataclass(frozen=True, slots=True)
class ServiceContext:
    """What the frame lends to a service while it runs. `stop` asks for an ordered end, as SIGTERM does."""

    settings: ServiceSettings
    lifecycle: Lifecycle
    meters: Meters
    terms: TermsOf = no_terms
    stop: Callable[[str], None] = _nobody_stops


class Service(Protocol):
    """The part that knows what the requests mean. It sees typed messages and `Call`s, never a socket."""

    name: str

    def grpc_services(self) -> tuple[GrpcService, ...]: ...

    def rest_routers(self) -> tuple[APIRouter, ...]: ...

    async def start(self, context: ServiceContext) -> None:
        """Loads what it needs, engines included; probes say `loading` until it returns."""
        ...

    async def stop(self) -> None:
        """Stops engines and flushes; called once, after the last request, also after a start that failed."""
        ...
