"""Teachers that grade, whoever does it: what the service asks of them, and how `Grade` is answered."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from typing import Protocol

from preceptor import wire
from preceptor.error_details import detail_of
from preceptor.errors import PreceptorError
from preceptor.types import CacheTier, GradeItem, ModelInfo, Receipt, Verdict
from preceptor_proto.v1 import teacher_pb2
from preceptor_teacher.api import Payer
from preceptor_teacher.graders import Grader, GroupGrader
from preceptor_teacher.graders.asking import free_of_cost
from preceptor_teacher.graders.watching import Judgements

ReceiptOf = Callable[[Verdict, float], Receipt]
"""Of a verdict and the seconds that it took."""


class GradingSpec(Protocol):
    """What every entry of a teacher that grades has."""

    @property
    def name(self) -> str: ...

    @property
    def aliases(self) -> tuple[str, ...]: ...


class GradingTeacher(Protocol):
    """A judge behind an API, a teacher that checks, or a discriminator."""

    @property
    def spec(self) -> GradingSpec: ...

    @property
    def info(self) -> ModelInfo: ...

    @property
    def trouble(self) -> str | None:
        """Why it cannot grade now; None while it can."""
        ...

    @property
    def judgements(self) -> Judgements:
        """What its graders have noticed of it."""
        ...

    @property
    def texts_at_once(self) -> int:
        """So many keep it busy."""
        ...

    async def start(self) -> None:
        """Finds out what it has to before it can grade."""
        ...

    async def grade(self, request: teacher_pb2.GradeRequest, payer: Payer) -> list[teacher_pb2.GradeResult]:
        """One result for each item, in order; an item that could not be graded has an error of its own."""
        ...

    async def close(self) -> None: ...


async def graded(
    grader: Grader | GroupGrader, request: teacher_pb2.GradeRequest, receipt_of: ReceiptOf
) -> list[teacher_pb2.GradeResult]:
    """What the grader says, each item by itself or held against its group."""
    items = [wire.grade_item_from_proto(item) for item in request.items]
    if isinstance(grader, GroupGrader):
        return await _in_groups(grader, items, receipt_of)
    return await _by_themselves(grader, [replace(item, group="") for item in items], receipt_of)


async def _by_themselves(grader: Grader, items: Sequence[GradeItem], receipt_of: ReceiptOf) -> list[teacher_pb2.GradeResult]:
    """Samples of one prompt are often equal to the letter: equal texts are graded once, and only the first bears the cost."""
    different = list(dict.fromkeys(items))
    found = await asyncio.gather(*(_graded(lambda item=item: _alone(grader, item), receipt_of) for item in different))
    outcomes = {item: one if isinstance(one, PreceptorError) else one[0] for item, one in zip(different, found, strict=True)}
    firsts = {item: items.index(item) for item in different}
    return [_result(outcomes[item], index, firsts[item]) for index, item in enumerate(items)]


async def _in_groups(grader: GroupGrader, items: Sequence[GradeItem], receipt_of: ReceiptOf) -> list[teacher_pb2.GradeResult]:
    """Each group by itself; what is wrong with one is said of each of its items."""
    groups: dict[str, list[int]] = {}
    for index, item in enumerate(items):
        groups.setdefault(item.group, []).append(index)
    members = list(groups.values())
    found = await asyncio.gather(
        *(_graded(lambda group=group: grader.grade_group([items[index] for index in group]), receipt_of) for group in members)
    )
    outcomes: dict[int, Verdict | PreceptorError] = {}
    for group, one in zip(members, found, strict=True):
        outcomes |= dict.fromkeys(group, one) if isinstance(one, PreceptorError) else dict(zip(group, one, strict=True))
    return [_result(outcomes[index], index, index) for index in range(len(items))]


async def _alone(grader: Grader, item: GradeItem) -> list[Verdict]:
    return [await grader.grade(item)]


async def _graded(grade: Callable[[], Awaitable[list[Verdict]]], receipt_of: ReceiptOf) -> list[Verdict] | PreceptorError:
    began_s = asyncio.get_running_loop().time()
    try:
        verdicts = await grade()
    except PreceptorError as error:
        return error
    took_s = asyncio.get_running_loop().time() - began_s
    return [replace(verdict, receipt=receipt_of(verdict, took_s)) for verdict in verdicts]


def _result(outcome: Verdict | PreceptorError, index: int, first: int) -> teacher_pb2.GradeResult:
    """The result of one item; a repeat of an earlier item has its verdict and none of its cost."""
    if isinstance(outcome, PreceptorError):
        detail = detail_of(outcome)
        detail.field = f"items[{index}].{detail.field}".rstrip(".")
        return teacher_pb2.GradeResult(error=detail)
    if index != first:
        outcome = _repeated(outcome)
    return teacher_pb2.GradeResult(verdict=wire.verdict_to_proto(outcome))


def _repeated(verdict: Verdict) -> Verdict:
    receipt = verdict.receipt and replace(
        verdict.receipt, tokens_computed=0, tokens_reused=verdict.tokens, cache=CacheTier.MEMORY
    )
    return replace(free_of_cost(verdict), receipt=receipt)


def judge_of(judges: Iterable[GradingTeacher], name: str) -> GradingTeacher | None:
    """The one of that name or alias."""
    return next((judge for judge in judges if name == judge.spec.name or name in judge.spec.aliases), None)


def names_of(judges: Iterable[GradingTeacher]) -> Sequence[str]:
    return [name for judge in judges for name in (judge.spec.name, *judge.spec.aliases)]
