"""A teacher that grades by a discriminator: the side that asks its process, and the writer of the teacher's text."""

from __future__ import annotations

import asyncio
import os
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from preceptor.errors import ConfigurationError, EngineFailed
from preceptor.types import Capabilities, ModelInfo, ModelRef, Receipt, TimeSplit, Verdict
from preceptor_proto.v1 import teacher_pb2
from preceptor_serving.models.folder import check_folder
from preceptor_teacher.api import Message, Payer
from preceptor_teacher.api.messages import ChatReply
from preceptor_teacher.discriminator.groups import Answer, AskedGroup
from preceptor_teacher.discriminator.options import DiscriminatorOptions
from preceptor_teacher.discriminator.params import DiscriminatorParams
from preceptor_teacher.graders import Means, build_grader, names_of_graders
from preceptor_teacher.graders.anomalies import Anomalies
from preceptor_teacher.graders.protocol import DISCRIMINATOR
from preceptor_teacher.graders.watching import Judgements
from preceptor_teacher.grading import GradingTeacher, graded
from preceptor_teacher.judges import Judge
from preceptor_teacher.line_child import LineChild, Program

CHILD = "preceptor_teacher.discriminator.child"
START_S = 120.0  # importing torch and reading a model, on a busy machine
KEPT = ("CUDA_VISIBLE_DEVICES", "HOME", "LD_LIBRARY_PATH", "OMP_NUM_THREADS", "PATH", "PYTHONPATH", "TMPDIR")
"""Of the environment; keys of providers stay here."""

MOST_STANDINGS = 64


@dataclass(frozen=True, slots=True)
class DiscriminatorSpec:
    """One discriminator: what it is made of, and what else it is called."""

    name: str
    options: DiscriminatorOptions
    aliases: tuple[str, ...] = ()


class Discriminator:
    """A served one. Made inside an event loop."""

    texts_at_once = 64  # its process answers one group after the other

    def __init__(self, spec: DiscriminatorSpec, teacher_named: Callable[[str], GradingTeacher]) -> None:
        self.spec = spec
        self._teacher_named = teacher_named
        self.judgements = Judgements()
        self._anomalies = Anomalies(self.judgements)
        self.trouble: str | None = None
        self.standings: OrderedDict[Payer, Mapping[str, Any]] = OrderedDict()
        command = (sys.executable, "-m", CHILD, spec.options.model_dump_json())
        environ = {name: value for name, value in os.environ.items() if name in KEPT}
        self.child = LineChild(Program(f"discriminator {spec.name}", command, environ, START_S, tells_stderr=True))
        self._asked: set[asyncio.Task[Answer]] = set()

    @property
    def info(self) -> ModelInfo:
        """Every job has weights of its own, so there is no digest to name."""
        can = Capabilities(judge=True, graders=names_of_graders(DISCRIMINATOR))
        return ModelInfo(self._ref, b"", b"", 0, 0, "", DISCRIMINATOR, "", "", can, aliases=self.spec.aliases)

    async def start(self) -> None:
        """The folder is looked at; the process starts with the first group."""
        check_folder(self.spec.options.folder)

    async def grade(self, request: teacher_pb2.GradeRequest, payer: Payer) -> list[teacher_pb2.GradeResult]:
        """See `GradingTeacher.grade`. The writer is paid by the job."""
        means = Means(
            partial(self._write, payer) if self.spec.options.writer is not None else None,
            watch=self.judgements,
            engine=DISCRIMINATOR,
            tell_apart=partial(self._told_apart, payer),
        )
        results = await graded(build_grader(request.spec, means), request, self._receipt)
        self._anomalies.look(request, results)
        return results

    async def close(self) -> None:
        for task in self._asked:
            task.cancel()
        await self.child.close()

    async def _write(self, payer: Payer, messages: Sequence[Message], schema: Mapping[str, Any] | None = None) -> ChatReply:
        assert self.spec.options.writer is not None, "no writer, nothing to ask"
        writer = self._teacher_named(self.spec.options.writer)
        if not isinstance(writer, Judge):
            name = self.spec.options.writer
            raise ConfigurationError(
                "the writer is no teacher behind an API", field=f"teachers.{self.spec.name}.writer", value=name
            )
        return await writer.converse(messages, None, payer)

    async def _told_apart(self, payer: Payer, group: AskedGroup, params: DiscriminatorParams) -> Answer:
        """What was once asked is learned to its end, also where the caller has gone."""
        task = asyncio.create_task(self._ask(payer, group, params), name=f"discriminator-{self.spec.name}")
        self._asked.add(task)
        task.add_done_callback(self._asked.discard)
        return await asyncio.shield(task)

    async def _ask(self, payer: Payer, group: AskedGroup, params: DiscriminatorParams) -> Answer:
        question = {"tenant": payer.tenant, "job": payer.job, "params": params.model_dump(), "group": asdict(group)}
        within_s = self.spec.options.timeout_s
        try:
            said = await self.child.ask(question, within_s)
        except TimeoutError:
            self.trouble = f"discriminator {self.spec.name} took longer than {within_s:g} s"
            raise EngineFailed(self.trouble, field="timeout_s", value=within_s) from None
        except EngineFailed as error:
            self.trouble = str(error)
            raise
        self.trouble = None
        self.standings[payer] = said["standing"]
        self.standings.move_to_end(payer)
        while len(self.standings) > MOST_STANDINGS:
            self.standings.popitem(last=False)
        return Answer.from_json(said["answer"])

    @property
    def _ref(self) -> ModelRef:
        return ModelRef(self.spec.name)

    def _receipt(self, verdict: Verdict, took_s: float) -> Receipt:
        return Receipt(self._ref, engine=DISCRIMINATOR, tokens_computed=verdict.tokens, time=TimeSplit(readout_s=took_s))


class DiscriminatorCollector(Collector):
    """Where each job's discriminator stands, of the last jobs that asked. `teachers` is live."""

    def __init__(self, teachers: Sequence[GradingTeacher]) -> None:
        self._teachers = teachers

    def collect(self) -> Iterator[Metric]:
        labels = ("teacher", "tenant", "job")
        updates = CounterMetricFamily(
            "preceptor_discriminator_updates", "Updates, those that were skipped included", labels=labels
        )
        skipped = CounterMetricFamily("preceptor_discriminator_skipped", "Updates without a finite gradient", labels=labels)
        told = "What the last update saw: loss in nats, accuracy and mean gap of its pairs"
        last = GaugeMetricFamily("preceptor_discriminator_last", told, labels=(*labels, "what"))
        for one in self._teachers:
            for payer, standing in one.standings.items() if isinstance(one, Discriminator) else ():
                whose = (one.spec.name, payer.tenant, payer.job)
                updates.add_metric(whose, standing["updates"])
                skipped.add_metric(whose, standing["skipped"])
                for what in ("loss", "accuracy", "gap") if standing["last"] else ():
                    last.add_metric((*whose, what), standing["last"][what])
        yield from (updates, skipped, last)
