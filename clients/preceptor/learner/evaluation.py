"""Greedy answers to held-out questions, through the same Generate call as the rollouts, and how many are right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from preceptor.error_details import error_of
from preceptor.errors import PreceptorError, Unavailable
from preceptor.learner.data import EvaluationItem
from preceptor.learner.generation import LONGEST_CALL_S, next_reply
from preceptor.learner.plan import RunPlan
from preceptor.learner.ports import RolloutPort
from preceptor.learner.requests import ROLLOUTS_PER_CALL, evaluation_request, render_requests
from preceptor.learner.waits import persist
from preceptor.learner.weights import Weights
from preceptor.recipes import is_match
from preceptor_proto.v1 import common_pb2

SAMPLES = 3


@dataclass(frozen=True, slots=True)
class Answer:
    """One question, what the student wrote, and whether it is right."""

    prompt: str
    answer: str
    response: str
    right: bool


@dataclass(frozen=True, slots=True)
class Evaluated:
    """How the student did."""

    correct: int
    asked: int
    samples: tuple[Answer, ...]

    @property
    def accuracy(self) -> float:
        return self.correct / self.asked


@dataclass(slots=True)
class Evaluator:
    """Asks the rollout service. The questions are rendered once."""

    port: RolloutPort
    plan: RunPlan
    weights: Weights
    deadline_s: float
    _ids: list[common_pb2.TokenIds] = field(default_factory=list[common_pb2.TokenIds])

    async def evaluate(self, index: int) -> Evaluated:
        """Of the weights that have seen `index` steps."""
        if not self._ids:
            self._ids = await render(self.port, [item.prompt for item in self.plan.evaluation], self.deadline_s)
        answers: list[Answer] = []
        for first in range(0, len(self._ids), ROLLOUTS_PER_CALL):
            some = self.plan.evaluation[first : first + ROLLOUTS_PER_CALL]
            texts = await persist(lambda _, f=first: self._answers(index, f), "evaluating the student", self.deadline_s)
            answers += self._judged(some, texts)
        return Evaluated(sum(one.right for one in answers), len(answers), tuple(answers[:SAMPLES]))

    async def _answers(self, index: int, first: int) -> list[str]:
        try:
            return await self._ask(index, first, self._ids[first : first + ROLLOUTS_PER_CALL])
        except PreceptorError as error:
            if error.retryable:
                await self.weights.load_again()
            raise

    async def _ask(self, index: int, first: int, ids: Sequence[common_pb2.TokenIds]) -> list[str]:
        asked = self.plan.compiled.recipe.evaluation
        assert asked is not None, "the plan evaluates"
        request = evaluation_request(self.plan, index, ids, first, asked)
        texts: dict[int, str] = {}
        replies = self.port.generate(request, deadline_s=LONGEST_CALL_S)
        try:
            while (reply := await next_reply(replies, self.deadline_s)) is not None:
                if reply.HasField("failure"):
                    raise error_of(reply.failure.error)
                self.weights.check(reply.rollout.model)
                texts[reply.rollout.id.prompt] = reply.rollout.text
        finally:
            await replies.aclose()
        if len(texts) != len(ids):
            raise Unavailable(f"the rollout service answered {len(texts)} of {len(ids)} questions")
        return [texts[first + number] for number in range(len(ids))]

    def _judged(self, items: Sequence[EvaluationItem], texts: Sequence[str]) -> list[Answer]:
        asked = self.plan.compiled.recipe.evaluation
        assert asked is not None, "the plan evaluates"
        return [
            Answer(item.prompt, item.answer, text, is_match(text, item.answer, asked.match))
            for item, text in zip(items, texts, strict=True)
        ]


async def render(port: RolloutPort, prompts: Sequence[str], deadline_s: float) -> list[common_pb2.TokenIds]:
    """The ids of each prompt as one user message."""
    found: list[common_pb2.TokenIds] = []
    for request in render_requests(prompts):
        reply = await persist(lambda left_s, r=request: port.render(r, deadline_s=left_s), "rendering prompts", deadline_s)
        found += reply.ids
    return found
