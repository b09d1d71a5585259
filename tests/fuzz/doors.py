"""The three services as an operator runs them, on small models, with everything that a caller can reach; and their end."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from preceptor.local.child import Child, ChildSpec, spawn
from preceptor.local.ports import free_ports
from preceptor.local.stack import Probe
from preceptor.local.valkey import EmbeddedValkey
from preceptor_teacher.testing import StandIn, standing_in

ROOT = Path(__file__).parents[2]
TEACHER_MODEL, STUDENT_MODEL = ROOT / "examples" / "tiny" / "teacher", ROOT / "examples" / "tiny" / "student"
SMALL = ("--max-sequence-tokens", "64", "--max-batch-items", "16", "--max-deadline-s", "5")


@dataclass(frozen=True)
class Doors:
    """Where everything listens, and the processes behind it."""

    grpc: dict[str, str]
    rest: dict[str, str]
    queue: EmbeddedValkey
    children: dict[str, Child]
    provider: StandIn

    def dead(self) -> list[str]:
        """Services whose process is gone."""
        return [name for name, child in self.children.items() if not child.alive]


@asynccontextmanager
async def open_doors(folder: Path) -> AsyncGenerator[Doors]:
    """For the length of the block."""
    async with standing_in(TEACHER_MODEL, name="judge") as provider:
        with EmbeddedValkey(folder / "queue") as queue:
            specs = _specs(folder, queue, provider)
            children: dict[str, Child] = {}
            try:
                for name, (spec, _, _) in specs.items():
                    children[name] = await spawn(spec)
                for child in children.values():
                    await child.wait_ready()
                grpc = {name: f"127.0.0.1:{port}" for name, (_, port, _) in specs.items()}
                rest = {name: f"http://127.0.0.1:{port}" for name, (_, _, port) in specs.items()}
                yield Doors(grpc, rest, queue, children, provider)
            finally:
                for child in children.values():
                    await child.stop()


def _specs(folder: Path, queue: EmbeddedValkey, provider: StandIn) -> dict[str, tuple[ChildSpec, int, int]]:
    judge = {"engine": "api", "base_url": provider.base_url, "model": "judge", "timeout_s": 4, "private_hosts": ["127.0.0.1"]}
    teachers = {"teachers": {"fake": {"engine": "fake"}, "judge": judge}}
    (folder / "teachers.yaml").write_text(yaml.safe_dump(teachers))
    runs = str(folder / "runs")
    flags = {
        "teacher": ("--teachers-file", str(folder / "teachers.yaml"), *SMALL),
        "rollout": ("--model", f"tiny={STUDENT_MODEL}", "--weights-roots", runs, *SMALL),
        "student": ("--model", f"tiny={STUDENT_MODEL}", "--runs-root", runs, *SMALL[-2:]),
    }
    secret = {"PRECEPTOR_REDIS_URL": queue.url, "PRECEPTOR_REDIS_PASSWORD_FILE": str(queue.folder / "valkey.password")}
    return {name: _spec(name, flags[name], folder, secret) for name in flags}


def _spec(name: str, flags: tuple[str, ...], folder: Path, env: dict[str, str]) -> tuple[ChildSpec, int, int]:
    grpc_port, rest_port = free_ports(2)
    serve = (sys.executable, "-m", "preceptor", "serve", name, "--grpc-port", str(grpc_port), "--rest-port", str(rest_port))
    ready = Probe(f"http://127.0.0.1:{rest_port}/readyz")
    return ChildSpec(name, (*serve, *flags), folder / f"{name}.log", ready, env), grpc_port, rest_port
