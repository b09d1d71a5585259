"""Kills at named points: which there are, and one seeded run of one of them."""

from __future__ import annotations

import random
import time
from dataclasses import replace
from pathlib import Path
from typing import TypedDict

from preceptor.learner import POINTS as LEARNER_POINTS
from preceptor_teacher.worker.points import POINTS as WORKER_POINTS
from tests.faults.ambush import POINTS as SERVER_POINTS
from tests.faults.marks import Kill
from tests.faults.results import Outcome
from tests.faults.stage import DiedWrongly, Ended, Script, perform

OVERLAPPING = "overlapping learner"
OVERLAPPING_POINTS = (
    "weights published",
    "weights loaded",
    "tasks journaled",
    "tasks opened",
    "rollout journaled",
    "rows journaled",
    "rows deleted",
    "verdict journaled",
    "batch journaled",
    "step applied",
    "step journaled",
    "journal compacted",
)
"""Of a learner that draws the next step while one is trained (staleness 1): those at which stages of two steps are under way."""

BY_WHOM = {"learner": LEARNER_POINTS, OVERLAPPING: OVERLAPPING_POINTS, "worker": WORKER_POINTS, "server": SERVER_POINTS}
POINTS = tuple(f"{whose}: {point}" for whose, points in BY_WHOM.items() for point in points)
ROUNDS = 3
LATEST_HIT = 3
STEPS = 3
LONG_CALL_S = 0.35  # several heartbeats


def point_of(seed: int, points: tuple[str, ...] = POINTS) -> str:
    """Seeds 1, 2, ... take the points in turn."""
    return points[(seed - 1) % len(points)]


class Compared(TypedDict):
    """Fields of an `Outcome`."""

    kind: str
    name: str
    lost_steps: int
    repeated_steps: int
    equal: bool


def compare(kind: str, name: str, ended: Ended, calm: Ended) -> Compared:
    """What every run is asked, whatever was done to it."""
    lost, repeated = STEPS - len(ended.computed), sum(ended.computed.values()) - len(ended.computed)
    return Compared(kind=kind, name=name, lost_steps=lost, repeated_steps=repeated, equal=ended.digest == calm.digest)


async def kill_run(folder: Path, point: str, seed: int, calm: Ended) -> Outcome:
    """Kills at a hit drawn by the seed; at the first one where the disturbed run did not come that far."""
    whose, _, name = point.partition(": ")
    counted = calm.reached.get(name.partition(": ")[0] if whose == "server" else name, 1)
    drawn = random.Random(seed).randint(1, min(counted, LATEST_HIT))
    began = time.monotonic()
    for hit in dict.fromkeys((drawn, 1)):
        try:
            script = Script(call_s=LONG_CALL_S if "renew" in name else 0.0, staleness=int(whose == OVERLAPPING))
            ended = await perform(folder / f"{seed}-{hit}", replace(script, **{whose.split()[-1]: Kill(name, hit)}))
        except (DiedWrongly, TimeoutError) as error:
            problem = f"{type(error).__name__}: {error}"
            return Outcome("kill", point, seed, hit, STEPS, 0, False, time.monotonic() - began, problem)
        if name in ended.died:
            leaked = f"{ended.reserved} reservations leaked" if whose.endswith("learner") and ended.reserved else ""
            seconds = time.monotonic() - began
            return Outcome(seed=seed, hit=hit, seconds=seconds, problem=leaked, **compare("kill", point, ended, calm))
    return Outcome("kill", point, seed, 0, 0, 0, True, time.monotonic() - began, "the point was never reached")
