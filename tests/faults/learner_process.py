"""A learner in a process of its own: `python -m tests.faults.learner_process JSON`. Ends with 0 when its run is over."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass
from pathlib import Path

from preceptor.config.settings import ClientSettings
from preceptor.learner import Learner, Patiences, RunFolder
from preceptor.learner.connect import connected
from tests.faults import clock
from tests.faults.marks import Kill, MarkingHooks
from tests.unit.preceptor.learner.world import RUN, plan


@dataclass(frozen=True)
class LearnerJob:
    """What the process is told."""

    settings: dict[str, str]
    root: str
    marks: str
    kill_point: str = ""
    kill_hit: int = 1
    clock_jumps: int | None = None  # seed; None: its clock is the machine's
    staleness: int = 0

    @property
    def hooks(self) -> MarkingHooks:
        return MarkingHooks(Path(self.marks), Kill(self.kill_point, self.kill_hit))


async def learn(job: LearnerJob) -> None:
    patience = Patiences(deadline_s=60.0, connect_s=30.0, repoke_s=0.3)
    asked = plan(staleness=job.staleness, deterministic=job.staleness == 0)
    async with connected(ClientSettings.model_validate(job.settings)) as ports:
        await Learner(asked, ports, RunFolder.of(Path(job.root), RUN), True, lambda _: None, job.hooks, patience).run()


if __name__ == "__main__":
    told = LearnerJob(**json.loads(sys.argv[1]))
    clock.jump(told.clock_jumps)
    asyncio.run(learn(told))
