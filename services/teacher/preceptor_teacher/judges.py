"""Teachers that judge: one provider behind a name, and the answering of `Grade`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial

from preceptor import wire
from preceptor.error_details import detail_of
from preceptor.errors import PreceptorError, TooLarge
from preceptor.logs import get_logger
from preceptor.types import CacheTier, Capabilities, GradeItem, ModelInfo, ModelRef, Receipt, TimeSplit, Verdict
from preceptor_proto.v1 import teacher_pb2
from preceptor_serving.quotas import Desk
from preceptor_teacher.api import ApiOptions, ChatClient, ChatReply, Message, Payer, Spent
from preceptor_teacher.api.probing import Found
from preceptor_teacher.graders import GRADERS, Grader, build_grader

log = get_logger("preceptor.judges")
ENGINE = "api"
TEMPERATURE_UNSAID = 1.0  # what providers take where none is sent


@dataclass(frozen=True, slots=True)
class JudgeSpec:
    """One judge: how its provider is reached, and what else it is called."""

    name: str
    options: ApiOptions
    aliases: tuple[str, ...] = ()


def _unbooked(payer: Payer, spent: Spent) -> None:
    """Nobody counts."""


class Judge:
    """A served judge. Made inside an event loop; raises `ConfigurationError` where its key is missing."""

    def __init__(self, spec: JudgeSpec, desk: Desk | None = None, book: Callable[[Payer, Spent], None] = _unbooked) -> None:
        self.spec = spec
        self._found: Found | None = None
        self.client = ChatClient(spec.options, spec.options.key(), name=spec.name, desk=desk, book=book)

    @property
    def trouble(self) -> str | None:
        """Why the last request to the provider failed."""
        return self.client.trouble

    @property
    def info(self) -> ModelInfo:
        """What is known of it. Weights and tokenizer are the provider's, so their digests are empty."""
        found, declared = self._found, self.spec.options.structured_output
        can = Capabilities(
            judge=True,
            generate=True,
            graders=tuple(GRADERS),
            structured_output=declared and (found is None or found.structured_output),
            own_logprobs=found is not None and found.top_logprobs is not None,
            max_topk=(found and found.top_logprobs) or 0,
            echo_logprobs=found is not None and found.echo_logprobs,
            seeds=found is not None and found.seeds,
        )
        return ModelInfo(self._ref, b"", b"", 0, 0, "", ENGINE, self.spec.options.wire, "", can, aliases=self.spec.aliases)

    async def start(self) -> None:
        """Finds out what the provider serves, where the operator wants it asked. A provider that is away serves nothing more."""
        if self.spec.options.probe:
            self._found = await self.client.probe()
            log.info("provider_probed", teacher=self.spec.name, **asdict(self._found))

    async def grade(self, request: teacher_pb2.GradeRequest, payer: Payer) -> list[teacher_pb2.GradeResult]:
        """One result for each item, in order; an item whose judge could not be reached has an error of its own.

        Samples of one prompt are often equal to the letter: equal texts are judged once, and only the first bears the cost.
        """
        ask = partial(self.client.complete, payer=payer)
        grader = build_grader(request.spec, ask, self.client.calls.secret_of(payer.tenant))
        items = [replace(wire.grade_item_from_proto(item), group="") for item in request.items]
        different = list(dict.fromkeys(items))
        outcomes = dict(zip(different, await asyncio.gather(*(self._graded(grader, item) for item in different)), strict=True))
        firsts = {item: items.index(item) for item in different}
        return [_result(outcomes[item], index, firsts[item]) for index, item in enumerate(items)]

    async def converse(self, messages: Sequence[Message], max_tokens: int | None, payer: Payer) -> ChatReply:
        """What the provider answers to a conversation."""
        most = self.spec.options.max_reply_tokens
        if max_tokens is not None and max_tokens > most:
            raise TooLarge("the operator bounds replies", field="max_tokens", value=max_tokens, limit=f"<= {most}")
        return await self.client.complete(messages, max_tokens=max_tokens, payer=payer)

    async def close(self) -> None:
        await self.client.close()

    @property
    def _ref(self) -> ModelRef:
        return ModelRef(self.spec.name)

    @property
    def _temperature(self) -> float:
        sent = None if self.spec.options.wire == "anthropic" else self.spec.options.temperature
        return TEMPERATURE_UNSAID if sent is None else sent

    async def _graded(self, grader: Grader, item: GradeItem) -> Verdict | PreceptorError:
        began_s = asyncio.get_running_loop().time()
        try:
            verdict = await grader.grade(item)
        except PreceptorError as error:
            return error
        took_s = asyncio.get_running_loop().time() - began_s
        return replace(verdict, receipt=self._receipt(verdict, took_s))

    def _receipt(self, verdict: Verdict, took_s: float) -> Receipt:
        """Time spent waiting for a slot and for the provider is one number: from outside they cannot be told apart."""
        return Receipt(
            self._ref,
            engine=ENGINE,
            engine_version=self.spec.options.wire,
            temperature=self._temperature,
            tokens_computed=verdict.tokens,
            time=TimeSplit(queued_s=took_s),
        )


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


def judge_of(judges: Iterable[Judge], name: str) -> Judge | None:
    """The judge of that name or alias."""
    return next((judge for judge in judges if name == judge.spec.name or name in judge.spec.aliases), None)


def names_of(judges: Iterable[Judge]) -> Sequence[str]:
    return [name for judge in judges for name in (judge.spec.name, *judge.spec.aliases)]
