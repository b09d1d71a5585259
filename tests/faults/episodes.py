"""make test-episode-faults: kills in the middle of rollouts of several turns, with the bundled pair in real services.

    python -m tests.faults.episodes                                  every point and process three times; about ten minutes
    python -m tests.faults.episodes --points "rollout: turn drawn"   a slice
    python -m tests.faults.episodes --resume runs/episodes.jsonl --write    goes on; puts the table into docs/reliability.md

One stack stays up: teacher, rollout and student service and a Valkey, each brought back when it dies. A run is a learner in a
process of its own, which is started again with --resume when it is the one that died. Its episodes are those of
`examples/tiny/carries.yaml`: four turns, three answers. The rollout service kills at the point itself, so the episode is exactly
there. Every run must end with the weights of the undisturbed one, and with its losses, step by step.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import random
import signal
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from safetensors.numpy import load_file

from preceptor.demo.pair import TEACHER_NAME, Pair
from preceptor.local.child import ChildSpec, last_lines
from preceptor.local.stack import ServicePlan, Stack, build_stack
from preceptor.local.supervisor import RestartPolicy, Supervisor
from preceptor.logs import configure_logs
from preceptor_rollout.episodes import POINTS as EPISODE_POINTS
from tests.faults import results
from tests.faults.results import Outcome
from tests.faults.rollout_process import Order, done_of

ROOT = Path(__file__).parents[2]
LEARNER = "learner"
VICTIMS = ("rollout", "teacher", "student", "queue", LEARNER)
POINTS = tuple(f"{victim}: {point}" for victim in VICTIMS for point in EPISODE_POINTS)
ROUNDS, STEPS, PROMPTS = 3, 2, 4
LATEST_HIT = STEPS * PROMPTS * 2  # of the 24 and more that a run has at each point: in both steps, at any turn
LIMIT_S = 180.0
ENVIRONMENTS = '{"carries": {"kind": "examples.tiny.carries:create"}}'
RECIPE = (
    "examples/tiny/carries.yaml",
    f"schedule.steps={STEPS}",
    f"schedule.prompts_per_step={PROMPTS}",
    "schedule.deterministic=true",
    "evaluation=null",
)


class DiedWrongly(Exception):
    """The learner ended otherwise than by the kill that was ordered."""


@dataclass(frozen=True)
class Ended:
    """What a run left behind: the weights, and its steps as they were told."""

    weights: str
    losses: tuple[tuple[int, float, float], ...]


@dataclass
class Stage:
    """The services, and learners one after the other."""

    folder: Path
    stack: Stack
    supervisor: Supervisor

    @property
    def order(self) -> Path:
        return order_of(self.folder)

    async def perform(self, run: str, victim: str = "", point: str = "", hit: int = 0) -> bool:
        """A whole run; whether somebody was killed in it."""
        done_of(self.order).unlink(missing_ok=True)
        async with asyncio.timeout(LIMIT_S):
            learner = await self._start(run)
            if victim:
                Order(point, hit, learner.pid if victim == LEARNER else self.supervisor.pid(victim)).write(self.order)
            while (code := await ended(learner)) == -signal.SIGKILL and victim == LEARNER:
                learner = await self._start(run)
        if code:
            raise DiedWrongly(f"the learner of {run} ended with code {code}:\n{last_lines(self._log(run))}")
        self.order.unlink(missing_ok=True)
        return done_of(self.order).exists()

    def left(self, run: str) -> Ended:
        """Read from its folder."""
        runs = self.stack.runs / run
        newest = max((runs / "versions").glob("*/model.safetensors"), key=lambda path: path.stat().st_mtime)
        tensors = sorted(load_file(newest).items())
        digest = hashlib.sha256(b"".join(name.encode() + value.tobytes() for name, value in tensors)).hexdigest()
        events = [json.loads(line) for line in (runs / "events.jsonl").read_text(encoding="utf-8").splitlines()]
        steps = [event for event in events if event["event"] == "step"]
        return Ended(digest, tuple((one["step"], one["loss"], one["grad_norm"]) for one in steps))

    def _log(self, run: str) -> Path:
        return self.folder / f"{run}.log"

    async def _start(self, run: str) -> asyncio.subprocess.Process:
        command = ("learn", *RECIPE, "--run", run, "--resume", "--runs", str(self.stack.runs))
        with self._log(run).open("ab") as output:
            return await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "preceptor", *command),
                stdout=output,
                stderr=output,
                env=environment(self.stack),
                cwd=ROOT,
            )


def order_of(folder: Path) -> Path:
    return folder / "order.json"


async def ended(process: asyncio.subprocess.Process) -> int:
    """Its exit code; it does not outlive whoever waits for it."""
    try:
        return await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def environment(stack: Stack) -> dict[str, str]:
    """Of a learner of this stack."""
    doors = {f"PRECEPTOR_CLIENT_{name.upper()}": door.grpc for name, door in stack.doors.items()}
    queue = {"PRECEPTOR_REDIS_URL": stack.queue.url, "PRECEPTOR_REDIS_PASSWORD": stack.queue.password}
    return {**os.environ, "OMP_NUM_THREADS": "1", **doors, **queue}


@asynccontextmanager
async def on_stage(folder: Path, rounds: int = ROUNDS) -> AsyncGenerator[Stage]:
    """The services are up, the rollout service as one that takes orders; each may die once at every point of every round."""
    pair = Pair.at(ROOT / "examples" / "tiny")
    services = (
        ServicePlan("teacher", "teacher", f"{TEACHER_NAME}={pair.teacher}"),
        ServicePlan("rollout", "rollout", pair.student_model),
        ServicePlan("student", "student", pair.student_model),
    )
    stack = build_stack(folder, folder / "runs", services)
    stages = tuple(tuple(_with_orders(child, stack, folder, pair) for child in stage) for stage in stack.stages)
    policy = RestartPolicy(deaths=len(POINTS) * rounds, longest_pause_s=0.5)
    async with Supervisor(stages, policy) as supervisor:
        yield Stage(folder, stack, supervisor)


def _with_orders(child: ChildSpec, stack: Stack, folder: Path, pair: Pair) -> ChildSpec:
    env = {**child.env, "OMP_NUM_THREADS": "1"}
    if child.name != "rollout":
        return replace(child, env=env)
    doors = stack.doors["rollout"]
    flags = {
        "model": pair.student_model,
        "grpc_port": int(doors.grpc.rpartition(":")[2]),
        "rest_port": int(doors.rest.rpartition(":")[2]),
        "weights_roots": str(stack.runs),
        "environments": ENVIRONMENTS,
    }
    command = (sys.executable, "-m", "tests.faults.rollout_process", str(order_of(folder)), json.dumps(flags))
    return replace(child, command=command, env=env)


async def kill_run(stage: Stage, point: str, seed: int, calm: Ended) -> Outcome:
    """Kills at a hit that the seed draws."""
    victim, _, name = point.partition(": ")
    began, run = time.monotonic(), f"{point.replace(': ', '-').replace(' ', '-')}-{seed}"
    hit = random.Random(f"{point} {seed}").randint(1, LATEST_HIT)
    try:
        was_killed = await stage.perform(run, victim, name, hit)
        left = stage.left(run)
    except (DiedWrongly, TimeoutError) as error:
        problem = f"{type(error).__name__}: {error}"
        return Outcome("kill", point, seed, hit, STEPS, 0, False, time.monotonic() - began, problem)
    steps = [step for step, *_ in left.losses]
    return Outcome(
        kind="kill",
        name=point,
        seed=seed,
        hit=hit if was_killed else 0,
        lost_steps=STEPS - len(set(steps)),
        repeated_steps=len(steps) - len(set(steps)),
        equal=left == calm,
        seconds=time.monotonic() - began,
        problem="" if was_killed else "the point was never reached",
    )


async def outcomes(asked: argparse.Namespace, done: Sequence[Outcome], folder: Path) -> AsyncIterator[Outcome]:
    """What is not done yet, one after the other."""
    known = {(one.name, one.seed) for one in done if one.fine}
    points = [point for point in POINTS if any(point.startswith(wanted) for wanted in asked.points)]
    due = [(point, seed) for seed in range(1, asked.rounds + 1) for point in points if (point, seed) not in known]
    async with on_stage(folder, asked.rounds) as stage:
        await stage.perform("calm")
        calm = stage.left("calm")
        for point, seed in due:
            yield await kill_run(stage, point, seed, calm)


def table(done: Sequence[Outcome]) -> list[str]:
    fine = sum(one.fine for one in done)
    told = (
        f"{len(done)} kills at {len({one.name for one in done})} points; {len(done) - fine} did not end as the undisturbed run."
    )
    return [results.provenance("make test-episode-faults"), "", told, "", *results.kill_table(done, POINTS)]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--points", nargs="*", default=list(POINTS), help="only these; a prefix is enough")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="kills at each point")
    parser.add_argument("--resume", type=Path, help="a file of outcomes: what stands in it is not done again")
    parser.add_argument("--write", action="store_true", help="put the table into docs/reliability.md")
    asked = parser.parse_args()
    configure_logs("faults", log_format="json", level="error")
    done = asyncio.run(results.gather(partial(outcomes, asked), asked.resume, "episodes"))
    latest = list({(one.name, one.seed): one for one in done}.values())
    print("\n".join(table(latest)))
    if asked.write:
        results.write_part("episodes", table(latest))
    return 0 if all(one.fine for one in latest) else 1


if __name__ == "__main__":
    sys.exit(main())
