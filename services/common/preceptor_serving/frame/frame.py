"""Admits requests and accounts for them, the same way for every door."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

from preceptor.config.settings import ServiceSettings
from preceptor.errors import ErrorCode, Exhausted, PreceptorError, Unavailable
from preceptor.logs import get_logger, log_context
from preceptor_serving.auth.credentials import key_in_headers
from preceptor_serving.auth.gate import Gate
from preceptor_serving.auth.identity import Identity, Scope
from preceptor_serving.frame.call import Arrival, Call
from preceptor_serving.frame.outcome import OK, named_error
from preceptor_serving.lifecycle.state import Lifecycle
from preceptor_serving.metrics import Meters

RETRY_WHEN_NOT_READY_S = 1.0
RETRY_WHEN_FULL_S = 0.5
DEFAULT_MAX_CALLS: int = ServiceSettings.model_fields["max_calls"].default
log = get_logger("preceptor.access")


@dataclass(frozen=True, slots=True)
class FrameLimits:
    """Bounds of one request."""

    max_message_bytes: int
    max_deadline_s: float
    max_calls: int = DEFAULT_MAX_CALLS

    @classmethod
    def of(cls, settings: ServiceSettings) -> Self:
        return cls(settings.max_message_bytes, settings.max_deadline_s, settings.max_calls)

    def timeout_s(self, asked_s: float | None) -> float:
        """How long a request may take. One that arrives with no time left gets none, not the time of one that names none."""
        return self.max_deadline_s if asked_s is None else min(asked_s, self.max_deadline_s)


class Frame:
    """What stands between the doors and a service."""

    def __init__(self, lifecycle: Lifecycle, gate: Gate, meters: Meters, limits: FrameLimits) -> None:
        self.lifecycle = lifecycle
        self.gate = gate
        self.meters = meters
        self.limits = limits
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def in_flight(self) -> int:
        return self._in_flight

    async def idle(self) -> None:
        """Returns when no request is in flight; the caller bounds the wait."""
        await self._idle.wait()

    @contextmanager
    def admit(self, arrival: Arrival, scope: Scope | None, *, always: bool = False) -> Generator[Call]:
        """The admitted call. Whatever ends the block is counted and logged once and leaves as a `PreceptorError`.

        `always` is for what tells about the service: it answers while the service loads or drains.
        """
        deadline = asyncio.get_running_loop().time() + self.limits.timeout_s(arrival.timeout_s)
        call = Call(arrival.door, arrival.method, arrival.request_id(), _NOBODY, deadline)
        with self._accounted(call):
            if not always:
                self._refuse_unless_open()
                self._refuse_when_full()
            call.identity = self.gate.identify(arrival.path_key or key_in_headers(arrival.headers))
            if scope is not None:
                call.identity.require(scope)
            yield call

    @contextmanager
    def _accounted(self, call: Call) -> Generator[None]:
        began, code = time.perf_counter(), OK
        self._enter(call)
        try:
            with log_context(request_id=call.request_id):
                yield
        except (asyncio.CancelledError, GeneratorExit):
            code = ErrorCode.CANCELLED.value
            raise
        except Exception as error:
            named = named_error(error, call.request_id, call.deadline)
            code = named.code.value
            raise named from error if named is not error else named.__cause__
        finally:
            self._leave(call, code, time.perf_counter() - began)

    def refused(self, arrival: Arrival, error: PreceptorError) -> None:
        """Counts a request that met no method: an unknown route or a body that was never read."""
        self.meters.requests.labels(arrival.door, arrival.method, error.code.value).inc()

    def _refuse_unless_open(self) -> None:
        if self.lifecycle.accepts:
            return
        status = self.lifecycle.status()
        why = "; ".join(status.reasons.values())
        raise Unavailable(f"the service is {status.state}: {why}", retry_after_s=RETRY_WHEN_NOT_READY_S)

    def _refuse_when_full(self) -> None:
        limit = self.limits.max_calls
        if self._in_flight > limit:  # this one is counted already
            raise Exhausted(
                f"this process answers {limit} calls already",
                field="calls",
                value=self._in_flight,
                limit=limit,
                hint="send larger batches over fewer calls, or come back",
                retry_after_s=RETRY_WHEN_FULL_S,
            )

    def _enter(self, call: Call) -> None:
        self._in_flight += 1
        self._idle.clear()
        self.meters.in_flight.labels(call.door).inc()

    def _leave(self, call: Call, code: str, took_s: float) -> None:
        self._in_flight -= 1
        if not self._in_flight:
            self._idle.set()
        meters, door, method = self.meters, call.door, call.method
        meters.in_flight.labels(door).dec()
        meters.requests.labels(door, method, code).inc()
        meters.request_seconds.labels(door, method).observe(took_s)
        meters.received_bytes.labels(door).inc(call.received_bytes)
        meters.sent_bytes.labels(door).inc(call.sent_bytes)
        log.info(
            "request",
            door=str(door),
            method=method,
            code=code,
            took_ms=round(took_s * 1000, 3),
            request_id=call.request_id,
            tenant=call.identity.tenant,
            key_id=call.identity.key_id,
            received_bytes=call.received_bytes,
            sent_bytes=call.sent_bytes,
        )


_NOBODY = Identity(tenant="", key_id="", scopes=frozenset())
