"""The states of a service and the moves between them; pure, so that a test can walk all of them.

    loading ──▶ ready ◀──▶ degraded
       │          │            │
       └──────────┴─────┬──────┘
                        ▼
                    draining ──▶ stopped

A paused service is draining to those who look, and ready again when that is undone: it is its operator who has taken it
out of work, and the service refuses by itself what is new.

Degraded means that something named is wrong. Where that something stops the service from answering (`blocks`), probes
say "not serving"; otherwise it goes on serving and says what is missing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

Listener = Callable[["Status"], None]
Probe = Callable[[], str | None]


class State(StrEnum):
    LOADING = "loading"
    READY = "ready"
    DEGRADED = "degraded"
    DRAINING = "draining"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Trouble:
    """One thing that is wrong."""

    reason: str
    blocks: bool


@dataclass(frozen=True, slots=True)
class Status:
    """What the probes tell: the state, whether new work is taken, and why where there is a why."""

    state: State
    serving: bool
    reasons: dict[str, str]


class Lifecycle:
    """One service's state. Moves are idempotent, and nothing but the end of a pause leads back from draining."""

    def __init__(self) -> None:
        self._phase = State.LOADING
        self._reason = "starting"
        self._paused: str | None = None
        self._troubles: dict[str, Trouble] = {}
        self._probes: dict[str, Probe] = {}
        self._listeners: list[Listener] = []

    def listen(self, listener: Listener) -> None:
        """Calls the listener after every change, and once now."""
        self._listeners.append(listener)
        listener(self.status())

    def probe(self, name: str, probe: Probe) -> None:
        """Asks `probe` whenever the status is read; a text it returns is a trouble that does not block."""
        self._probes[name] = probe

    def loading(self, reason: str) -> None:
        """Says what is being loaded; only before `ready`."""
        if self._phase is State.LOADING:
            self._reason = reason
            self._changed()

    def ready(self) -> None:
        """Loading is over."""
        if self._phase is State.LOADING:
            self._phase = State.READY
            self._changed()

    def trouble(self, name: str, reason: str, *, blocks: bool) -> None:
        """Something is wrong until `clear(name)`."""
        if self._troubles.get(name) != Trouble(reason, blocks):
            self._troubles[name] = Trouble(reason, blocks)
            self._changed()

    def clear(self, name: str) -> bool:
        """The trouble is over; False where there was none."""
        known = self._troubles.pop(name, None) is not None
        if known:
            self._changed()
        return known

    def pause(self, reason: str) -> None:
        """Taken out of work until `resume`; calls about the service are let in all the same."""
        if self._paused is None:
            self._paused = reason
            self._changed()

    def resume(self) -> None:
        """The pause is over."""
        if self._paused is not None:
            self._paused = None
            self._changed()

    def draining(self, reason: str) -> bool:
        """True for the first who asks to stop; later ones change nothing."""
        if self._phase in (State.DRAINING, State.STOPPED):
            return False
        self._phase, self._reason = State.DRAINING, reason
        self._changed()
        return True

    def stopped(self) -> None:
        if self._phase is not State.STOPPED:
            self._phase = State.STOPPED
            self._changed()

    @property
    def accepts(self) -> bool:
        """Whether a new request is let in: after loading and before draining. Troubles are told by what they break."""
        return self._phase is State.READY

    def status(self) -> Status:
        """The state as probes tell it."""
        if self._phase is not State.READY:
            return Status(self._phase, False, {"service": self._reason})
        if self._paused is not None:
            return Status(State.DRAINING, False, {"service": self._paused})
        soft = {name: reason for name, probe in self._probes.items() if (reason := probe()) is not None}
        reasons = {name: trouble.reason for name, trouble in self._troubles.items()} | soft
        blocked = any(trouble.blocks for trouble in self._troubles.values())
        return Status(State.DEGRADED if reasons else State.READY, not blocked, reasons)

    def _changed(self) -> None:
        status = self.status()
        for listener in self._listeners:
            listener(status)
