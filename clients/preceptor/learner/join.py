"""Closed rollouts and their scores as the batch of one step: sorted, cut by a token budget, serialised once. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from preceptor.errors import Corrupt
from preceptor.journal import BatchSent, LearnerState, RolloutClosed, TaskProgress
from preceptor.layout import RowLayout
from preceptor.learner.control import permuted
from preceptor.learner.plan import RunPlan
from preceptor.learner.requests import grade_name
from preceptor.learner.stages import age_of, closed_rollouts, score_names
from preceptor.names import batch_digest
from preceptor.recipes.environments import ENVIRONMENT
from preceptor.wire import sequence_from_proto
from preceptor_proto.v1 import common_pb2, rollout_pb2, student_pb2, teacher_pb2


def batch_of(state: LearnerState, plan: RunPlan, index: int, tokenizer_size: int) -> BatchSent:
    """The batch that makes step `index + 1`; what is in here is what is journaled and sent, controls included."""
    closed = list(closed_rollouts(state, plan, index))
    items = [_item(state, plan, one) for one in closed]
    if plan.control == "permute_scores":
        items = permuted(items, plan.seed, index, tokenizer_size)
    recipe = plan.compiled.recipe
    payloads = tuple(
        student_pb2.MicroBatch(items=group).SerializeToString(deterministic=True)
        for group in micro_batches(items, recipe.schedule.micro_batch_tokens, packed=recipe.training.layout == "packed")
    )
    rollouts = tuple(one.rollout for one in closed)
    return BatchSent(plan.run, index + 1, batch_digest(payloads), plan.compiled.objective.to_json(), rollouts, payloads)


def micro_batches(
    items: Iterable[student_pb2.TrainItem], budget_tokens: int, *, packed: bool = False
) -> Iterator[list[student_pb2.TrainItem]]:
    """Consecutive items whose rows, padding included, fit the budget; a longer sequence goes alone."""
    group: list[student_pb2.TrainItem] = []
    layout = RowLayout(packed)
    for item in items:
        tokens = item_tokens(item)
        if group and layout.tokens_with(tokens) > budget_tokens:
            yield group
            group, layout = [], RowLayout(packed)
        group.append(item)
        layout.add(tokens)
    if group:
        yield group


def item_tokens(item: student_pb2.TrainItem) -> int:
    """Tokens of the whole sequence."""
    return sum(len(one.context.u32le or one.response.u32le) for one in item.sequence.segments) // 4


def weight_of(closed: RolloutClosed, plan: RunPlan) -> float:
    """1, or less where the weights that drew it are older than the bound."""
    beyond = age_of(closed, plan) - plan.staleness if plan.stale_weight else 0
    return plan.stale_weight ** max(0, beyond)


def _item(state: LearnerState, plan: RunPlan, closed: RolloutClosed) -> student_pb2.TrainItem:
    result = rollout_pb2.RolloutResult.FromString(closed.payload)
    slot = plan.slot_of(closed.rollout.sample)
    item = student_pb2.TrainItem(
        id=result.id,
        sequence=result.sequence,
        behaviour=result.behaviour,
        weight=weight_of(closed, plan),
        group=f"{slot.source.name}/{closed.rollout.prompt}",
        source=slot.source.name,
        finish_reason=result.finish_reason,
    )
    if result.HasField("student_topk"):
        item.student_topk.CopyFrom(result.student_topk)
    row_count = sequence_from_proto(result.sequence).row_count
    for teacher, name in score_names(state, plan, closed).items():
        item.scores.extend(_scores(state.tasks[name], teacher, row_count))
    for grader in slot.graders:
        item.scores.extend(_verdict(state.tasks[grade_name(closed.rollout, grader)], grader.name))
    if result.HasField("reward"):
        item.scores.add(source=ENVIRONMENT, reward=result.reward)
    return item


def _verdict(task: TaskProgress, source: str) -> Iterator[student_pb2.TeacherScores]:
    """The reward, and those of steps that have rows; nothing where the grader gave none: such a rollout does not count."""
    for part in task.rows:
        verdict = teacher_pb2.Envelope.FromString(part.payload).verdict
        if verdict.validity == common_pb2.VALIDITY_OK:
            yield student_pb2.TeacherScores(
                source=source,
                reward=verdict.reward,
                receipt=verdict.receipt,
                step_rewards_f32le=verdict.step_rewards_f32le if verdict.step_rows_u32le else b"",
                step_rows_u32le=verdict.step_rows_u32le,
            )


def _scores(task: TaskProgress, source: str, row_count: int) -> Sequence[student_pb2.TeacherScores]:
    """One part for each envelope that brought rows, in order; together they cover every row."""
    if task.next_row != row_count:
        raise Corrupt(
            f"task {task.opened.task_id} ended after row {task.next_row} of {row_count}",
            field="rows",
            value=task.next_row,
            limit=row_count,
            hint="the teacher read another rollout than was closed; please report it",
        )
    envelopes = (teacher_pb2.Envelope.FromString(part.payload) for part in task.rows)
    return [
        student_pb2.TeacherScores(source=source, rows=envelope.rows, receipt=envelope.receipt)
        for envelope in envelopes
        if envelope.HasField("rows") and envelope.rows.count
    ]
