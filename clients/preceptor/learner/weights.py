"""Which weights the rollout service runs: always those that the plan names for the next step."""

from __future__ import annotations

from preceptor.errors import Conflict, Unavailable
from preceptor.journal import LearnerJournal
from preceptor.learner.hooks import Hooks
from preceptor.learner.plan import RunPlan
from preceptor.learner.ports import RolloutPort
from preceptor.learner.student import Student
from preceptor.learner.waits import persist
from preceptor_proto.v1 import common_pb2, rollout_pb2


class Weights:
    """Publishes at the student, loads at the rollout service, and notices when that runs something else."""

    def __init__(
        self, port: RolloutPort, student: Student, journal: LearnerJournal, plan: RunPlan, hooks: Hooks, *, deadline_s: float
    ) -> None:
        self._port, self._student, self._journal, self._plan, self._hooks = port, student, journal, plan, hooks
        self._deadline_s = deadline_s
        self.loaded: common_pb2.ModelRef | None = None

    @property
    def published_step(self) -> int | None:
        """Of the newest version of this run that the student has told of."""
        known = self._student.published
        return known.step if known is not None and known.run == self._plan.run else None

    async def publish(self, step: int) -> None:
        """There is a version of the weights that have seen `step` steps."""
        if self._journal.state.applied_step != step:
            raise Conflict(
                f"the weights of step {step} are gone, and the student is at step {self._journal.state.applied_step}",
                field="schedule.publish_every_steps",
                value=step,
                hint="the student's folder of versions was emptied; start another run",
            )
        told = await self._student.publish()
        if self.published_step != step:
            raise Conflict(
                f"the student was asked to publish step {step} of run {self._plan.run} and published {_told(told)}",
                field="published.step",
                value=told.step,
                limit=step,
                hint="another learner feeds this student: each run needs a name of its own",
            )
        self._hooks.reached("weights published")

    async def bring_newest(self) -> int:
        """The rollout service runs the newest version; the step of it."""
        newest = self._student.published
        assert newest is not None, "something was published"
        await self._load(newest)
        return newest.step

    async def load_again(self) -> None:
        """After the rollout service may have restarted."""
        if self.loaded is not None:
            await self._load(self.loaded)

    def check(self, model: common_pb2.ModelRef) -> None:
        """Tokens of other weights than these are not ours: somebody else loads weights there too, or it restarted."""
        if model != self.loaded:
            raise Unavailable(
                f"the rollout service drew from {_told(model)} instead of {_told(self.loaded)}",
                field="model",
                value=_told(model),
                limit=_told(self.loaded),
                hint="each run needs a rollout service of its own",
            )

    async def _load(self, model: common_pb2.ModelRef) -> None:
        request = rollout_pb2.LoadWeightsRequest(version=rollout_pb2.WeightVersion(model=model))
        reply = await persist(
            lambda left_s: self._port.load_weights(request, deadline_s=left_s),
            "loading weights at the rollout service",
            self._deadline_s,
        )
        self.loaded = reply.model
        self._hooks.reached("weights loaded")


def _told(model: common_pb2.ModelRef | None) -> str:
    return "no weights of this run" if model is None else f"{model.name} (run {model.run or '-'}, step {model.step})"
