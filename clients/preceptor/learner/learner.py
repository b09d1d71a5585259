"""`Learner`: one training run from its recipe to its last checkpoint, through any number of deaths.

It asks `next_work` what to do and does that, again and again (`session`). Everything it must not forget is in its journal before
anybody else may forget it; everything else it finds out again.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from preceptor.journal import LearnerJournal
from preceptor.learner.events import EventLog, Watch
from preceptor.learner.handshake import shake_hands
from preceptor.learner.hooks import Hooks, NoHooks
from preceptor.learner.plan import RunPlan
from preceptor.learner.ports import Ports
from preceptor.learner.run_folder import RunFolder
from preceptor.learner.session import Patiences, Session, Summary


def _nobody(_: object) -> None:
    """Watches nothing."""


@dataclass(frozen=True, slots=True)
class Learner:
    """Ready to run. `run` may be called once; a new learner on the same folder goes on where this one stopped."""

    plan: RunPlan
    ports: Ports
    folder: RunFolder
    resume: bool = False
    watch: Watch = _nobody
    hooks: Hooks = field(default_factory=NoHooks)
    patiences: Patiences = field(default_factory=Patiences)

    async def run(self) -> Summary:
        """Returns when the last step is applied, durable and published."""
        resumed = self.folder.prepare(self.plan, resume=self.resume)
        async with await _opened(self.folder, self.plan.run) as journal:
            agreed = await shake_hands(self.ports, self.plan, connect_s=self.patiences.connect_s)
            events = EventLog(self.folder.events, self.watch)
            try:
                session = Session(self.ports, self.folder, self.hooks, self.patiences, agreed, journal, events)
                return await session.run(resumed=resumed)
            finally:
                events.close()


async def _opened(folder: RunFolder, run: str) -> LearnerJournal:
    """The journal. It is opened in a thread that cannot be cancelled, so a learner that is stopped meanwhile gives it back."""
    opening = asyncio.ensure_future(LearnerJournal.open(folder.journal, run))
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        await (await opening).close()
        raise
