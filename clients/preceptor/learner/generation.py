"""Asks for the rollouts of a step until every one is closed, and journals each close: the first one of a rollout counts."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

from preceptor import wire
from preceptor.error_details import error_of
from preceptor.errors import Conflict, PreceptorError, Unavailable
from preceptor.journal import LearnerJournal, RolloutClosed, RolloutKey, TaskOpened
from preceptor.learner.hooks import Hooks
from preceptor.learner.plan import RunPlan, Slot
from preceptor.learner.ports import RolloutPort
from preceptor.learner.requests import Terms, attempt_records, calls, generate_request, missing_groups
from preceptor.learner.scores import ScoreDesk
from preceptor.learner.waits import Patience, together
from preceptor.learner.weights import Weights
from preceptor_proto.v1 import rollout_pb2

Replies = AsyncGenerator[rollout_pb2.GenerateReply]

LONGEST_CALL_S = 3600.0
"""What one stream may take; silence on it is bounded by the learner's deadline."""


class Generation:
    """The rollouts of one run."""

    def __init__(
        self,
        ports: Callable[[Slot], RolloutPort],
        journal: LearnerJournal,
        plan: RunPlan,
        desk: ScoreDesk,
        weights: Weights,
        hooks: Hooks,
        *,
        terms_of: Callable[[int], Awaitable[Terms]],
        deadline_s: float,
    ) -> None:
        self._ports, self._journal, self._plan, self._desk = ports, journal, plan, desk
        self._weights, self._hooks = weights, hooks
        self._terms_of, self._deadline_s = terms_of, deadline_s
        self.tokens: Counter[int] = Counter()  # drawn by this learner, by step

    async def collect(self, index: int) -> None:
        """Returns when every rollout of the step is closed. Sources with different writers are asked at the same time."""
        await together(*(self._collect_from(slot, index) for slot in self._plan.slots))

    async def _collect_from(self, slot: Slot, index: int) -> None:
        patience = Patience(f"generating {slot.source.name}", self._deadline_s)
        while groups := missing_groups(self._journal.state, self._plan, slot, index):
            for some in calls(groups):
                try:
                    await self._ask(slot, index, some, patience)
                except PreceptorError as error:
                    if not error.retryable:
                        raise
                    await patience.wait(error)
                    if slot.by_student:
                        await self._weights.load_again()
                    break

    async def _ask(self, slot: Slot, index: int, groups: Sequence[rollout_pb2.GeneratePrompt], patience: Patience) -> None:
        """One call: tasks first, then the stream."""
        await self._open_tasks(slot, index, groups)
        request = generate_request(self._plan, slot, index, groups)
        replies = self._ports(slot).generate(request, deadline_s=LONGEST_CALL_S)
        failure: PreceptorError | None = None
        try:
            while (reply := await next_reply(replies, self._deadline_s)) is not None:
                if reply.HasField("failure"):
                    failure = _worse(failure, await self._failed(reply.failure))
                else:
                    await self._close(reply.rollout, slot)
                    patience.moved()
        except PreceptorError as error:
            failure = _worse(failure, error)
        finally:
            await replies.aclose()
        if failure is not None:
            raise failure
        self._check_complete(index, groups)

    async def _open_tasks(self, slot: Slot, index: int, groups: Sequence[rollout_pb2.GeneratePrompt]) -> None:
        """Tasks of the new attempts, journaled and opened; those of attempts before are taken back."""
        state = self._journal.state
        records = attempt_records(state, self._plan, slot, groups, index, await self._terms_of(index))
        opened = [record for record in records if isinstance(record, TaskOpened)]
        asked = {RolloutKey.of(record.rollout) for record in opened}
        old = [task.opened for task in state.tasks.values() if not task.ended and RolloutKey.of(task.opened.rollout) in asked]
        await self._journal.write(*records)
        self._hooks.reached("tasks journaled")
        await self._desk.cancel(old)
        await self._desk.open(opened)
        self._hooks.reached("tasks opened")

    async def _close(self, result: rollout_pb2.RolloutResult, slot: Slot) -> None:
        self._hooks.reached("rollout received")
        rollout = wire.rollout_from_proto(result)
        if slot.by_student:
            self._weights.check(result.model)
        if rollout.id.run != self._plan.run or rollout.sequence.row_count == 0:
            raise Conflict("this rollout was not asked for", field="rollout.id", value=str(rollout.id), limit=self._plan.run)
        if self._journal.state.is_settled(RolloutKey.of(rollout.id)):
            return
        await self._journal.write(RolloutClosed(rollout.id, result.SerializeToString(deterministic=True)))
        self._hooks.reached("rollout journaled")
        self.tokens[rollout.id.step] += rollout.sequence.row_count

    async def _failed(self, told: rollout_pb2.RolloutFailure) -> PreceptorError | None:
        """What is left to raise: a rollout that fails for good is given up by itself where its step may lose one."""
        error = error_of(told.error)
        if error.retryable or not told.HasField("id"):
            return error
        await self._desk.give_up(wire.rollout_id_from_proto(told.id), error)
        return None

    def _check_complete(self, index: int, groups: Sequence[rollout_pb2.GeneratePrompt]) -> None:
        asked = {
            RolloutKey(index, group.prompt, group.first_sample + number) for group in groups for number in range(group.samples)
        }
        if open_ones := [key for key in asked if not self._journal.state.is_settled(key)]:
            raise Unavailable(f"the rollout service ended its stream with {len(open_ones)} of {len(asked)} rollouts missing")


async def next_reply(replies: Replies, deadline_s: float) -> rollout_pb2.GenerateReply | None:
    """The next reply of a stream, None at its end; silence has an end too."""
    try:
        async with asyncio.timeout(deadline_s):
            return await anext(replies, None)
    except TimeoutError as error:
        if isinstance(error, PreceptorError):
            raise
        raise Unavailable(f"the rollout service said nothing for {deadline_s:g} s") from None


def _worse(known: PreceptorError | None, new: PreceptorError | None) -> PreceptorError | None:
    """The one that decides: a failure that trying again cannot mend."""
    if known is None or new is None:
        return known or new
    return new if known.retryable and not new.retryable else known
