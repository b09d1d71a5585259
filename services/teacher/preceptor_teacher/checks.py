"""Teachers that check: no model and no provider, only rules that compare a response with the right answer."""

from __future__ import annotations

from dataclasses import dataclass

from preceptor.types import Capabilities, ModelInfo, ModelRef, Receipt, TimeSplit, Verdict
from preceptor_proto.v1 import teacher_pb2
from preceptor_teacher.api import Payer
from preceptor_teacher.graders import Means, build_grader, names_of_graders
from preceptor_teacher.graders.protocol import CHECK
from preceptor_teacher.graders.watching import Judgements
from preceptor_teacher.grading import graded
from preceptor_teacher.mathematics import MathProcess

ENGINE = CHECK
TEXTS_AT_ONCE = 16  # rules take no time; what takes some goes to one process, one after the other


@dataclass(frozen=True, slots=True)
class CheckSpec:
    """A name for them; there is nothing to set."""

    name: str
    aliases: tuple[str, ...] = ()


class Checker:
    """A served one. It is made inside an event loop."""

    trouble: str | None = None
    texts_at_once = TEXTS_AT_ONCE

    def __init__(self, spec: CheckSpec) -> None:
        self.spec = spec
        self._mathematics = MathProcess()
        self.judgements = Judgements()

    @property
    def info(self) -> ModelInfo:
        """It has neither weights nor a tokenizer, so their digests are empty."""
        can = Capabilities(judge=True, graders=names_of_graders(ENGINE))
        return ModelInfo(ModelRef(self.spec.name), b"", b"", 0, 0, "", ENGINE, "", "", can, aliases=self.spec.aliases)

    async def start(self) -> None:
        """There is nothing to find out."""

    async def grade(self, request: teacher_pb2.GradeRequest, payer: Payer) -> list[teacher_pb2.GradeResult]:
        """See `GradingTeacher.grade`. Nobody is paid."""
        means = Means(mathematics=self._mathematics, watch=self.judgements, engine=ENGINE)
        return await graded(build_grader(request.spec, means), request, self._receipt)

    async def close(self) -> None:
        await self._mathematics.close()

    def _receipt(self, verdict: Verdict, took_s: float) -> Receipt:
        return Receipt(ModelRef(self.spec.name), engine=ENGINE, time=TimeSplit(readout_s=took_s))
