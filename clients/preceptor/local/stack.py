"""The processes of a whole Preceptor on one machine: an embedded Valkey, then the services, each with its door and its log."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import httpx

from preceptor.config import ClientSettings
from preceptor.local.child import ChildSpec
from preceptor.local.ports import LOOPBACK, free_ports, require_free
from preceptor.local.valkey import SECRET, EmbeddedValkey, ValkeySettings

Section = Literal["teacher", "rollout", "student"]
PROBE_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class ServicePlan:
    """One service to run. Ports of 0 take any free one; `flags` go to `preceptor serve` as they are."""

    name: str
    section: Section
    model: str | None
    grpc_port: int = 0
    rest_port: int = 0
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Doors:
    """Where a service listens."""

    grpc: str
    rest: str


@dataclass(frozen=True, slots=True)
class Stack:
    """What a supervisor starts, and where it can be reached then."""

    stages: tuple[tuple[ChildSpec, ...], ...]
    doors: Mapping[str, Doors]
    queue: EmbeddedValkey
    runs: Path = field(default=Path("runs"))

    def client(self, *, rollout: str = "rollout", writers: Mapping[str, str] | None = None) -> ClientSettings:
        """Settings of a learner that uses this stack; `writers` maps a teacher's model name to the service that writes for it."""
        written = {model: self.doors[name].grpc for model, name in (writers or {}).items()}
        values = {
            "teacher": self.doors["teacher"].grpc,
            "rollout": self.doors[rollout].grpc,
            "student": self.doors["student"].grpc,
            "redis_url": self.queue.url,
            "redis_password": self.queue.password,
            "writers": ",".join(f"{model}={where}" for model, where in written.items()) or None,
        }
        return ClientSettings.model_validate(values)


def build_stack(folder: Path, runs: Path, services: Sequence[ServicePlan]) -> Stack:
    """Chooses ports, writes the queue's configuration, and says how each process is started. Nothing runs yet."""
    queue = EmbeddedValkey(folder / "queue", ValkeySettings()).prepare()
    doors = {plan.name: _doors(plan) for plan in services}
    env = {"PRECEPTOR_REDIS_URL": queue.url, "PRECEPTOR_REDIS_PASSWORD_FILE": str(queue.folder / SECRET)}
    children = tuple(_service(plan, doors[plan.name], folder, runs, env) for plan in services)
    valkey = ChildSpec("queue", queue.command, folder / "queue.log", queue.ready, stop_grace_s=10.0)
    return Stack(((valkey,), children), doors, queue, runs)


def _doors(plan: ServicePlan) -> Doors:
    """Given ports must be free; 0 becomes a free one now, so that clients can be told before anything runs."""
    for flag, port in (("grpc_port", plan.grpc_port), ("rest_port", plan.rest_port)):
        if port:
            require_free(port, f"{plan.section}.{flag}")
    chosen = free_ports(2)
    grpc_port, rest_port = plan.grpc_port or chosen[0], plan.rest_port or chosen[1]
    return Doors(f"{LOOPBACK}:{grpc_port}", f"http://{LOOPBACK}:{rest_port}")


def _service(plan: ServicePlan, doors: Doors, folder: Path, runs: Path, env: Mapping[str, str]) -> ChildSpec:
    reads, writes = ("--weights-roots", str(runs)), ("--runs-root", str(runs))
    roots = {"teacher": reads, "rollout": reads, "student": writes}
    model = ("--model", plan.model) if plan.model else ()
    ports = ("--grpc-port", doors.grpc.rpartition(":")[2], "--rest-port", doors.rest.rpartition(":")[2])
    serve = (sys.executable, "-m", "preceptor", "serve", plan.section)
    command = (*serve, *model, *ports, *roots[plan.section], *plan.flags)
    return ChildSpec(plan.name, command, folder / f"{plan.name}.log", Probe(f"{doors.rest}/readyz"), env)


@dataclass(frozen=True, slots=True)
class Probe:
    """Asks a readiness URL; anything but a 2xx answer is "not yet"."""

    url: str

    async def __call__(self) -> bool:
        try:
            async with httpx.AsyncClient(timeout=PROBE_TIMEOUT_S, trust_env=False) as http:
                return (await http.get(self.url)).is_success
        except httpx.HTTPError:
            return False
