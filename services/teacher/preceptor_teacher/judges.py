"""Teachers that judge: one provider behind a name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from preceptor.errors import TooLarge
from preceptor.logs import get_logger
from preceptor.types import Capabilities, ModelInfo, ModelRef, Receipt, TimeSplit, Verdict
from preceptor_proto.v1 import teacher_pb2
from preceptor_serving.quotas import Desk
from preceptor_teacher.api import ApiOptions, ChatClient, ChatReply, Message, Payer, Spent
from preceptor_teacher.api.probing import Found
from preceptor_teacher.graders import Means, build_grader, names_of_graders, names_of_stepping_graders
from preceptor_teacher.graders.anomalies import Anomalies
from preceptor_teacher.graders.protocol import JUDGE
from preceptor_teacher.graders.watching import Judgements
from preceptor_teacher.grading import GradingTeacher, graded

log = get_logger("preceptor.judges")
ENGINE = JUDGE
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
        self.judgements = Judgements()
        self._anomalies = Anomalies(self.judgements)
        self.client = ChatClient(spec.options, spec.options.key(), name=spec.name, desk=desk, book=book)

    @property
    def trouble(self) -> str | None:
        """Why the last request to the provider failed."""
        return self.client.trouble

    @property
    def texts_at_once(self) -> int:
        """Requests that its provider gets at once."""
        return self.spec.options.max_concurrency

    @property
    def info(self) -> ModelInfo:
        """What is known of it. Weights and tokenizer are the provider's, so their digests are empty."""
        found, declared = self._found, self.spec.options.structured_output
        can = Capabilities(
            judge=True,
            generate=True,
            graders=names_of_graders(ENGINE),
            stepping_graders=names_of_stepping_graders(),
            structured_output=declared and (found is None or found.structured_output),
            own_logprobs=found is not None and found.top_logprobs is not None,
            max_topk=(found and found.top_logprobs) or 0,
            echo_logprobs=found is not None and found.echo_logprobs,
            seeds=found is not None and found.seeds,
            embeddings=self.spec.options.embedding is not None and (found is None or found.embeddings),
        )
        return ModelInfo(self._ref, b"", b"", 0, 0, "", ENGINE, self.spec.options.wire, "", can, aliases=self.spec.aliases)

    async def start(self) -> None:
        """Finds out what the provider serves, where the operator wants it asked. A provider that is away serves nothing more."""
        if self.spec.options.probe:
            self._found = await self.client.probe()
            log.info("provider_probed", teacher=self.spec.name, **asdict(self._found))

    async def grade(self, request: teacher_pb2.GradeRequest, payer: Payer) -> list[teacher_pb2.GradeResult]:
        """See `GradingTeacher.grade`."""
        secret = self.client.calls.secret_of(payer.tenant)
        embed = partial(self.client.embed, payer=payer) if self.spec.options.embedding else None
        means = Means(partial(self.client.complete, payer=payer), secret, embed, watch=self.judgements)
        results = await graded(build_grader(request.spec, means), request, self._receipt)
        self._anomalies.look(request, results)
        return results

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


class JudgementCollector(Collector):
    """What graders noticed of their judges, read when somebody asks. `judges` is live. docs/black-box.md explains the counts."""

    def __init__(self, judges: Sequence[GradingTeacher]) -> None:
        self._judges = judges

    def collect(self) -> Iterator[Metric]:
        told = "What was noticed of judges: whether repeated answers agree, which place they name, and odd verdicts"
        family = CounterMetricFamily("preceptor_judgements", told, labels=("teacher", "grader", "what", "outcome"))
        for judge in self._judges:
            for labels, count in sorted(judge.judgements.counts.items()):
                family.add_metric((judge.spec.name, *labels), count)
        yield family
