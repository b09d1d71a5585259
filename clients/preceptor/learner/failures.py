"""What fails for good: a few rollouts of a step may be left out, one more ends the run. Counted in the journal."""

from __future__ import annotations

from collections.abc import Callable

from preceptor.errors import PreceptorError
from preceptor.journal import LearnerJournal, RolloutKey, RolloutSkipped
from preceptor.learner.hooks import Hooks
from preceptor.learner.plan import RunPlan
from preceptor.types import RolloutId

Tell = Callable[[RolloutId, PreceptorError], None]


class Failures:
    """The budget of each step."""

    def __init__(self, journal: LearnerJournal, plan: RunPlan, hooks: Hooks, tell: Tell) -> None:
        self._journal, self._hooks, self._tell = journal, hooks, tell
        self._allowed = plan.compiled.recipe.schedule.failed_rollouts_per_step

    async def absorb(self, rollout: RolloutId, error: PreceptorError) -> None:
        """The rollout is skipped from now on; raises the error where the step has no failure left."""
        skipped = self._journal.state.skipped
        if RolloutKey.of(rollout) in skipped:
            return
        if sum(key.step == rollout.step for key in skipped) >= self._allowed:
            raise error
        await self._journal.write(RolloutSkipped(rollout, f"{error.code}: {error.message}"))
        self._tell(rollout, error)
        self._hooks.reached("rollout skipped")
