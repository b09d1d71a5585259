"""The gRPC server that every service is built on: its calls, the standard health service, and reflection."""

from __future__ import annotations

from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from preceptor_serving.doors.addresses import cannot_listen, host_port
from preceptor_serving.doors.grpc_calls import generic_handler
from preceptor_serving.frame.frame import Frame
from preceptor_serving.service import GrpcService

# gRPC refuses what exceeds its own limit without saying which field; this much beyond ours it still lets us say so.
NAMED_REFUSAL_MARGIN_BYTES = 1 << 20
UNNAMED_CALLS = 256  # beyond the frame's limit, so that it can refuse by name; health checks have room here too
KEEPALIVE_MS = 20_000
KEEPALIVE_TIMEOUT_MS = 10_000  # for the answer to a ping; a peer without one is gone, and its streams with it


class GrpcDoor:
    """A gRPC server over one service; `port` is known once it is built, calls are answered once it is started.

    Health and reflection ask for no key: they tell probes and tools nothing but the public protocol.
    """

    def __init__(self, services: tuple[GrpcService, ...], frame: Frame, host: str, port: int) -> None:
        most = frame.limits.max_calls + UNNAMED_CALLS
        self._server = grpc.aio.server(options=_options(frame.limits.max_message_bytes, most), maximum_concurrent_rpcs=most)
        self._health: Any = health.aio.HealthServicer()  # pyright: ignore[reportAttributeAccessIssue]
        self._names = ("", *(service.descriptor.full_name for service in services))
        for service in services:
            self._server.add_generic_rpc_handlers((generic_handler(service, frame),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection((*self._names[1:], health.SERVICE_NAME, reflection.SERVICE_NAME), self._server)
        self.port = self._listen(host, port)

    async def start(self) -> None:
        await self.set_serving(False)
        await self._server.start()

    async def set_serving(self, serving: bool) -> None:
        """What the standard health service answers, for the server and for each of its services."""
        states = health_pb2.HealthCheckResponse
        for name in self._names:
            await self._health.set(name, states.SERVING if serving else states.NOT_SERVING)

    async def stop(self, grace_s: float) -> None:
        """Takes no new calls, lets running ones finish, and cuts off what is left after the grace."""
        await self._server.stop(grace_s)

    def _listen(self, host: str, port: int) -> int:
        try:
            return self._server.add_insecure_port(host_port(host, port))
        except RuntimeError:
            raise cannot_listen(host, port, "grpc_port", "the port is taken or the address is not of this machine") from None


def _options(max_message_bytes: int, max_streams: int) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", max_message_bytes + NAMED_REFUSAL_MARGIN_BYTES),
        ("grpc.max_send_message_length", max_message_bytes + NAMED_REFUSAL_MARGIN_BYTES),
        ("grpc.max_concurrent_streams", max_streams),  # of one connection: its further calls wait at the client
        ("grpc.so_reuseport", 0),  # else a second service on the same port silently shares its calls
        ("grpc.keepalive_time_ms", KEEPALIVE_MS),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
        ("grpc.http2.ping_timeout_ms", KEEPALIVE_TIMEOUT_MS),
        ("grpc.http2.min_ping_interval_without_data_ms", KEEPALIVE_MS // 2),
    ]
