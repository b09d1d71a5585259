"""Teachers that grade, whoever does it: what the service asks of them, and how `Grade` is answered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Protocol

from preceptor import wire
from preceptor.error_details import detail_of
from preceptor.errors import PreceptorError
from preceptor.types import CacheTier, GradeItem, ModelInfo, Receipt, Verdict
from preceptor_proto.v1 import teacher_pb2
from preceptor_teacher.api import Payer
from preceptor_teacher.graders import Grader


class GradingSpec(Protocol):
    """What every entry of a teacher that grades has."""

    @property
    def name(self) -> str: ...

    @property
    def aliases(self) -> tuple[str, ...]: ...


class GradingTeacher(Protocol):
    """A judge behind an API, or a teacher that checks."""

    @property
    def spec(self) -> GradingSpec: ...

    @property
    def info(self) -> ModelInfo: ...

    @property
    def trouble(self) -> str | None:
        """Why it cannot grade now; None while it can."""
        ...

    async def start(self) -> None:
        """Finds out what it has to before it can grade."""
        ...

    async def grade(self, request: teacher_pb2.GradeRequest, payer: Payer) -> list[teacher_pb2.GradeResult]:
        """One result for each item, in order; an item that could not be graded has an error of its own."""
        ...

    async def close(self) -> None: ...


async def graded(
    grader: Grader, request: teacher_pb2.GradeRequest, receipt_of: Callable[[Verdict, float], Receipt]
) -> list[teacher_pb2.GradeResult]:
    """Samples of one prompt are often equal to the letter: equal texts are graded once, and only the first bears the cost."""
    items = [replace(wire.grade_item_from_proto(item), group="") for item in request.items]
    different = list(dict.fromkeys(items))
    found = await asyncio.gather(*(_graded(grader, item, receipt_of) for item in different))
    outcomes = dict(zip(different, found, strict=True))
    firsts = {item: items.index(item) for item in different}
    return [_result(outcomes[item], index, firsts[item]) for index, item in enumerate(items)]


async def _graded(grader: Grader, item: GradeItem, receipt_of: Callable[[Verdict, float], Receipt]) -> Verdict | PreceptorError:
    began_s = asyncio.get_running_loop().time()
    try:
        verdict = await grader.grade(item)
    except PreceptorError as error:
        return error
    return replace(verdict, receipt=receipt_of(verdict, asyncio.get_running_loop().time() - began_s))


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
    cost = None if verdict.cost_usd is None else 0.0
    return replace(verdict, calls=0, prompt_tokens=0, completion_tokens=0, cost_usd=cost, receipt=receipt)


def judge_of(judges: Iterable[GradingTeacher], name: str) -> GradingTeacher | None:
    """The one of that name or alias."""
    return next((judge for judge in judges if name == judge.spec.name or name in judge.spec.aliases), None)


def names_of(judges: Iterable[GradingTeacher]) -> Sequence[str]:
    return [name for judge in judges for name in (judge.spec.name, *judge.spec.aliases)]
