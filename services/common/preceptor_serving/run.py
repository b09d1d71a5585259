"""Runs a service: doors, lifecycle, signals. `run_service` is a process; `running` is the same inside another one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from preceptor.config.settings import ServiceSettings
from preceptor.logs import get_logger
from preceptor_serving.auth.gate import gate_for
from preceptor_serving.doors.grpc_server import GrpcDoor
from preceptor_serving.doors.http_server import HttpDoor
from preceptor_serving.doors.rest_app import rest_app
from preceptor_serving.frame.frame import Frame, FrameLimits
from preceptor_serving.lifecycle.signals import stop_signals
from preceptor_serving.lifecycle.stages import Stage, run_stages
from preceptor_serving.lifecycle.state import Lifecycle, State, Status
from preceptor_serving.metrics import Meters
from preceptor_serving.service import Service, ServiceContext

ANNOUNCE_S = 2.0
IDLE_CONNECTIONS = 1024  # probes, and clients that keep one open between calls
LINGER_S = 0.3  # for replies on the wire; streams of health watchers would otherwise hold the door for the whole grace
CUT_OFF_S = 5.0
SERVICE_STOP_S = 20.0
REST_STOP_S = 5.0
FLUSH_S = 2.0
log = get_logger("preceptor.lifecycle")


class RunningService:
    """A service behind its two doors. Create it inside an event loop; both ports are bound when that returns."""

    def __init__(self, service: Service, settings: ServiceSettings, stop_asked: asyncio.Future[str] | None = None) -> None:
        self.service, self.settings = service, settings
        self._stop_asked = stop_asked
        self.lifecycle, self.meters = Lifecycle(), Meters()
        self._gate = gate = gate_for(settings.host, settings.key_file)
        self.frame = Frame(self.lifecycle, gate, self.meters, FrameLimits.of(settings))
        self.lifecycle.probe("key_file", lambda: gate.trouble)
        self.rest_app = rest_app(service.name, service.rest_routers(), self.frame)
        self._rest = HttpDoor(self.rest_app, settings.host, settings.rest_port, settings.max_calls + IDLE_CONNECTIONS)
        self._grpc = GrpcDoor(service.grpc_services(), self.frame, settings.host, settings.grpc_port)
        self._announcements: set[asyncio.Task[None]] = set()
        self._stopping: asyncio.Task[list[str]] | None = None

    @property
    def grpc_port(self) -> int:
        return self._grpc.port

    @property
    def rest_port(self) -> int:
        return self._rest.port

    async def start(self) -> None:
        """Opens the doors, loads the service, says ready. While it loads, probes answer and requests are told to wait."""
        await self._rest.start()
        await self._grpc.start()
        self.lifecycle.listen(self._announce)
        log.info("doors_open", service=self.service.name, grpc_port=self.grpc_port, rest_port=self.rest_port)
        context = ServiceContext(self.settings, self.lifecycle, self.meters, self._gate.terms, self._ask_to_stop)
        await self.service.start(context)
        self.lifecycle.ready()

    async def stop(self, reason: str) -> list[str]:
        """Stops in order and returns the stages that went wrong; asking again joins the stop that is under way."""
        if self._stopping is None:
            self.lifecycle.draining(reason)
            self._stopping = asyncio.create_task(self._stop(), name="drain")
        return await asyncio.shield(self._stopping)

    def _ask_to_stop(self, reason: str) -> None:
        """The process ends in order; inside a block of code nothing does before the block."""
        if self._stop_asked is not None and not self._stop_asked.done():
            self._stop_asked.set_result(reason)

    async def _stop(self) -> list[str]:
        grace_s = self.settings.drain_grace_s
        failed = await run_stages(
            (
                Stage("announce", lambda: self._grpc.set_serving(False), ANNOUNCE_S),
                Stage("requests", self._finish_requests, grace_s + CUT_OFF_S),
                Stage("service", self.service.stop, SERVICE_STOP_S),
                Stage("rest", self._rest.stop, REST_STOP_S),
                Stage("logs", _flush_logs, FLUSH_S),
            )
        )
        self.lifecycle.stopped()
        return failed

    async def _finish_requests(self) -> None:
        """Waits for the last reply, then closes the gRPC door.

        Until then the door stays open and the frame refuses what is new: a closing gRPC server would drop a call that
        arrives in that moment as CANCELLED, without a reason to come back.
        """
        try:
            async with asyncio.timeout(self.settings.drain_grace_s):
                await self.frame.idle()
        except TimeoutError:
            log.error("requests_cut_off", in_flight=self.frame.in_flight, grace_s=self.settings.drain_grace_s)
            raise
        finally:
            await self._grpc.stop(LINGER_S)

    def _announce(self, status: Status) -> None:
        """Tells the health service and the metrics; the state itself has changed already."""
        for state in State:
            self.meters.service_state.labels(state).set(state is status.state)
        log.info("state", state=str(status.state), serving=status.serving, reasons=status.reasons)
        task = asyncio.get_running_loop().create_task(self._grpc.set_serving(status.serving))
        self._announcements.add(task)
        task.add_done_callback(self._announcements.discard)


@asynccontextmanager
async def running(service: Service, settings: ServiceSettings) -> AsyncGenerator[RunningService]:
    """A started service for the length of the block: `--inline` runs and tests. Port 0 takes any free port."""
    house = RunningService(service, settings)
    try:
        await house.start()
        yield house
    finally:
        await house.stop("the block around it ended")


def run_service(service: Service, settings: ServiceSettings) -> int:
    """Serves until SIGTERM or SIGINT; the process's exit code, 0 after a clean stop."""
    return asyncio.run(_serve(service, settings))


async def _serve(service: Service, settings: ServiceSettings) -> int:
    asked: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    with stop_signals(lambda name: None if asked.done() else asked.set_result(f"received {name}")):
        house = RunningService(service, settings, asked)
        starting = asyncio.create_task(house.start(), name="start")
        await asyncio.wait({starting, asked}, return_when=asyncio.FIRST_COMPLETED)
        if asked.done() and not starting.done():
            starting.cancel()
        failure = await _outcome(starting)
        reason = await asked if failure is None or asked.done() else "the start failed"
        failed_stages = await house.stop(reason)
    if failure is not None:
        raise failure
    return 1 if failed_stages else 0


async def _outcome(starting: asyncio.Task[None]) -> BaseException | None:
    """The error of a start that failed; None where it succeeded or was called off by a signal."""
    try:
        await starting
    except asyncio.CancelledError:
        return None
    except Exception as error:
        return error
    return None


async def _flush_logs() -> None:
    for handler in logging.getLogger().handlers:
        handler.flush()
