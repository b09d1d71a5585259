"""A world without models for learners to live and die in: services that keep their state, do as scripted, and can be counted.

Tokens, scores and weights are pure functions of their names and of what went in, so two runs that applied the same things once
each end with the same weights, and a run that lost, repeated or mixed something does not.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from preceptor import wire
from preceptor.errors import Conflict, Fenced, NotFound, PreceptorError, Unavailable
from preceptor.learner import Control, EvaluationItem, Learner, NoHooks, Patiences, Ports, RunFolder, RunPlan, Summary
from preceptor.learner.events import Event
from preceptor.names import batch_digest
from preceptor.queue import Flow, LogName, LogWriter, MemoryQueue, Then
from preceptor.queue.keys import kind_of
from preceptor.queue.space import KeySpace
from preceptor.recipes import compile_recipe, recipe_from
from preceptor.types import Capabilities, IdLogprobs, ModelInfo, ModelRef, RaggedIds, RaggedLogprobs, Receipt, RolloutId, Rows
from preceptor_proto.v1 import common_pb2, rollout_pb2, student_pb2, teacher_pb2

RUN, TENANT, TEACHER, JUDGE, TOKENIZER = "run-1", "local", "tutor-model", "judge-model", bytes(32)
TOKENS = 50
TEACHER_REF = ModelRef(TEACHER, manifest_sha256=bytes(range(32)))
PATIENCE = Patiences(deadline_s=2.0, connect_s=0.3, repoke_s=0.02)
ALL = Capabilities(
    sampled=True, max_topk=8, max_candidates_per_row=8, tail=True, entropy=True, deterministic=True, streaming=True
)


def recipe(**changes: object) -> dict[str, object]:
    schedule = {"steps": 3, "prompts_per_step": 2, "deterministic": True, "checkpoint_every_steps": 2, "micro_batch_tokens": 40}
    support = {"op": "support", "params": {"teacher_topk": 2, "student_topk": 2}}
    return {
        "version": 1,
        "name": "r",
        "summary": "s",
        "data": {"path": "unused"},
        "sources": {"rollouts": {"samples_per_prompt": 2, "max_response_tokens": 9}},
        "teachers": {"tutor": {"model": TEACHER}, "judge": {"model": JUDGE}},
        "terms": [
            {"on": "rollouts", "teacher": "tutor", "signal": support, "objective": "reverse_kl"},
            {
                "on": "rollouts",
                "teacher": "judge",
                "signal": {"op": "reward", "params": {"grader": "verbal"}},
                "objective": "policy_gradient",
                "advantage": "group_relative",
            },
        ],
        "optimizer": {"learning_rate": 0.001},
        "schedule": {**schedule, **changes},
        "evaluation": {"path": "unused", "every_steps": 3, "max_response_tokens": 4},
    }


def plan(raw: dict[str, object] | None = None, control: Control = "none", **changes: Any) -> RunPlan:
    compiled = compile_recipe(recipe_from(raw or recipe(**changes)))
    prompts = tuple(f"prompt {number}" for number in range(5))
    return RunPlan(RUN, TENANT, compiled, prompts, (EvaluationItem("q", "1"), EvaluationItem("r", "0")), control)


def number(*parts: object) -> int:
    return int.from_bytes(hashlib.sha256(json.dumps(parts, default=str).encode()).digest()[:6], "little")


class Fault(Exception):
    """A learner is killed here."""


@dataclass
class KillAt(NoHooks):
    """Raises at the nth time that a point is reached."""

    point: str = ""
    hit: int = 1
    seen: Counter[str] = field(default_factory=Counter)

    def reached(self, point: str) -> None:
        self.seen[point] += 1
        if point == self.point and self.seen[point] == self.hit:
            raise Fault(point)


# ---------------------------------------------------------------- services


@dataclass
class FakeRollout:
    """Draws tokens from (writer, seed, step, prompt, sample, position); the weights only name who drew."""

    queue: MemoryQueue
    writer: str = "student"
    weights: ModelRef = field(default_factory=lambda: ModelRef("student", manifest_sha256=bytes(32)))
    down: int = 0  # so many next calls find nobody
    break_after: list[int] = field(default_factory=list)  # streams that end in an error after so many rollouts
    fail: list[PreceptorError] = field(default_factory=list)
    refuse: set[tuple[int, int, int]] = field(default_factory=set)  # step, prompt, sample: fails for good
    slow: float = 0.0  # seconds for each rollout
    silent: bool = False
    calls: Counter[str] = field(default_factory=Counter)
    asked: list[tuple[int, int, int, int, int]] = field(default_factory=list)

    def _call(self, name: str) -> None:
        self.calls[name] += 1
        if self.down:
            self.down -= 1
            raise Unavailable("nobody listens at 127.0.0.1:50052", retry_after_s=0.01)

    async def describe(self, *, deadline_s: float) -> rollout_pb2.RolloutDescribeReply:
        self._call("describe")
        info = ModelInfo(self.weights, TOKENIZER, bytes(32), TOKENS, TOKENS, "f32", "fake", "1", "1", ALL)
        return rollout_pb2.RolloutDescribeReply(student=wire.model_info_to_proto(info))

    async def render(self, request: rollout_pb2.RenderRequest, *, deadline_s: float) -> rollout_pb2.RenderReply:
        self._call("render")
        texts = [item.conversation.messages[0].content for item in request.items]
        return rollout_pb2.RenderReply(ids=[wire.ids_to_proto([number(text) % TOKENS, 1]) for text in texts])

    async def pieces(self, request: rollout_pb2.PiecesRequest, *, deadline_s: float) -> rollout_pb2.PiecesReply:
        """Each id stands for its number, and a space between two."""
        self._call("pieces")
        lists = [wire.ids_from_proto(one).tolist() for one in request.ids]
        utf8 = [[f"{' ' if at else ''}{one}".encode() for at, one in enumerate(ids)] for ids in lists]
        return rollout_pb2.PiecesReply(pieces=[rollout_pb2.TokenPieces(utf8=one, special_u8=bytes(len(one))) for one in utf8])

    async def load_weights(self, request: rollout_pb2.LoadWeightsRequest, *, deadline_s: float) -> rollout_pb2.LoadWeightsReply:
        self._call("load_weights")
        self.weights = wire.model_ref_from_proto(request.version.model)
        return rollout_pb2.LoadWeightsReply(model=request.version.model)

    async def generate(
        self, request: rollout_pb2.GenerateRequest, *, deadline_s: float
    ) -> AsyncGenerator[rollout_pb2.GenerateReply]:
        self._call("generate")
        if self.silent:
            await asyncio.Event().wait()
        if self.weights.step < request.min_weight_step:
            raise Unavailable("older weights run here", retry_after_s=0.01)
        if request.sampling.temperature == 0:
            for group in request.prompts:
                yield rollout_pb2.GenerateReply(rollout=self._answer(request, group))
            return
        left = self.break_after.pop(0) if self.break_after else -1
        if self.fail:
            failed = common_pb2.ErrorDetail(code=str(self.fail[0].code), message=self.fail.pop(0).message)
            yield rollout_pb2.GenerateReply(failure=rollout_pb2.RolloutFailure(error=failed))
            left = 0
        for group in request.prompts:
            self.asked.append((request.step, group.prompt, group.first_sample, group.samples, group.attempt))
            for sample in range(group.first_sample, group.first_sample + group.samples):
                if left == 0:
                    raise Unavailable("the stream broke", retry_after_s=0.01)
                left -= 1
                if (request.step, group.prompt, sample) in self.refuse:
                    yield _refused(RolloutId(request.run, request.step, group.prompt, sample, group.attempt))
                    continue
                await asyncio.sleep(self.slow)
                yield rollout_pb2.GenerateReply(rollout=await self._draw(request, group, sample))

    def _answer(self, request: rollout_pb2.GenerateRequest, group: rollout_pb2.GeneratePrompt) -> rollout_pb2.RolloutResult:
        rollout = RolloutId(request.run, request.step, group.prompt, 0, 0)
        text = f"the answer is {int(self.weights.step >= 3)}"
        return rollout_pb2.RolloutResult(
            id=wire.rollout_id_to_proto(rollout), text=text, model=wire.model_ref_to_proto(self.weights)
        )

    async def _draw(
        self, request: rollout_pb2.GenerateRequest, group: rollout_pb2.GeneratePrompt, sample: int
    ) -> rollout_pb2.RolloutResult:
        rollout = RolloutId(request.run, request.step, group.prompt, sample, group.attempt)
        name = (self.writer, request.seed, request.step, group.prompt, sample)
        length = 1 + number("length", *name) % request.sampling.max_new_tokens
        ids = [number(*name, position) % TOKENS for position in range(length)]
        topk = RaggedIds.from_rows([[(one + 1) % TOKENS, (one + 2) % TOKENS] for one in ids])
        if request.write_logs:
            writer = LogWriter(self.queue, LogName.of(TENANT, request.job, rollout))
            for start in range(0, length, 4):
                part = common_pb2.Segment(response=wire.ids_to_proto(ids[start : start + 4]))
                lists = topk.rows_between(start, min(start + 4, length))
                await writer.append(part, candidates=wire.ragged_to_proto(lists))
                await asyncio.sleep(0)
            await writer.close(common_pb2.FINISH_REASON_EOS)
        segments = [common_pb2.Segment(context=group.context), common_pb2.Segment(response=wire.ids_to_proto(ids))]
        return rollout_pb2.RolloutResult(
            id=wire.rollout_id_to_proto(rollout),
            sequence=common_pb2.Sequence(segments=segments),
            text=" ".join(map(str, ids)),
            behaviour=common_pb2.Behaviour(versions_u32le=np.full(length, self.weights.step, "<u4").tobytes()),
            student_topk=wire.ragged_to_proto(topk) if request.student_topk else None,
            finish_reason=common_pb2.FINISH_REASON_EOS,
            model=wire.model_ref_to_proto(self.weights),
        )


def _refused(rollout: RolloutId) -> rollout_pb2.GenerateReply:
    error = common_pb2.ErrorDetail(code="INVALID_ARGUMENT", message="too long for this engine")
    return rollout_pb2.GenerateReply(failure=rollout_pb2.RolloutFailure(id=wire.rollout_id_to_proto(rollout), error=error))


@dataclass
class FakeStudent:
    """Weights are a digest of everything applied; the journal on its 'disk' survives `die`, what is newer does not."""

    weights: bytes = b"start"
    applied: list[tuple[int, bytes, bytes]] = field(default_factory=list)  # step, digest, weights after it
    durable: int = 0
    epoch: int = 0
    is_open: bool = False
    published: ModelRef | None = None
    die_after_step: set[int] = field(default_factory=set)
    refuse: list[PreceptorError] = field(default_factory=list)
    batches: dict[int, list[student_pb2.MicroBatch]] = field(default_factory=dict)
    computed: Counter[int] = field(default_factory=Counter)
    metrics: dict[str, float] = field(default_factory=dict)
    slow: float = 0.0  # seconds for each step
    publishes_as: str = ""  # another run than it was asked for
    device: str = "cpu"

    def die(self) -> None:
        self.is_open, self.applied = False, self.applied[: self.durable]

    @property
    def now(self) -> bytes:
        return self.applied[-1][2] if self.applied else self.weights

    def _status(self) -> student_pb2.StudentStatus:
        status = student_pb2.StudentStatus(run=RUN, epoch=self.epoch, applied_step=len(self.applied), durable_step=self.durable)
        status.device = self.device
        if self.published is not None:
            status.published.CopyFrom(wire.model_ref_to_proto(self.published))
        return status

    async def open_run(self, request: student_pb2.OpenRunRequest, *, deadline_s: float) -> student_pb2.StudentStatus:
        if self.refuse:
            raise self.refuse.pop(0)
        self.epoch += 1
        self.is_open = True
        return self._status()

    def _check(self, epoch: int) -> None:
        if not self.is_open:
            raise NotFound("no such run here")
        if epoch != self.epoch:
            raise Fenced("an older epoch")

    async def step(self, messages: Sequence[student_pb2.StepMessage], *, deadline_s: float) -> student_pb2.StepReply:
        header, batches = messages[0].header, [message.micro_batch for message in messages[1:]]
        self._check(header.epoch)
        digest = batch_digest(batch.SerializeToString(deterministic=True) for batch in batches)
        assert digest == header.batch_sha256
        if header.step <= len(self.applied):
            if self.applied[header.step - 1][1] != digest:
                raise Conflict("another batch")
            return student_pb2.StepReply(applied_step=header.step, repeated_step=True, metrics={"loss": 1.0})
        assert header.step == len(self.applied) + 1, "a step was left out"
        await asyncio.sleep(self.slow)
        self.computed[header.step] += 1
        self.batches[header.step] = batches
        self.applied.append((header.step, digest, hashlib.sha256(self.now + _meaning(batches)).digest()))
        if header.step in self.die_after_step:
            self.die_after_step.discard(header.step)
            self.die()
            raise Unavailable("the student died", retry_after_s=0.01)
        return student_pb2.StepReply(
            applied_step=header.step, durable_step=self.durable, metrics={"loss": 1.0, "grad_norm": 2.0, **self.metrics}
        )

    async def checkpoint(self, request: student_pb2.CheckpointRequest, *, deadline_s: float) -> student_pb2.CheckpointReply:
        self._check(request.epoch)
        self.durable = len(self.applied)
        return student_pb2.CheckpointReply(durable_step=self.durable)

    async def publish(self, request: student_pb2.PublishRequest, *, deadline_s: float) -> student_pb2.PublishReply:
        self._check(request.epoch)
        manifest = hashlib.sha256(self.now).digest()
        self.published = ModelRef("student", self.publishes_as or request.run, request.epoch, len(self.applied), manifest)
        return student_pb2.PublishReply(model=wire.model_ref_to_proto(self.published))


def _meaning(batches: Sequence[student_pb2.MicroBatch]) -> bytes:
    """What training depends on: tokens and scores, not which attempt or how long it took."""
    parts: list[bytes] = []
    for item in (item for batch in batches for item in batch.items):
        parts.append(b"%d/%d" % (item.id.prompt, item.id.sample) + item.sequence.SerializeToString(deterministic=True))
        columns = {"sampled": b"", "values": b""}
        for scores in item.scores:
            columns["sampled"] += scores.rows.sampled_f32le
            columns["values"] += scores.rows.candidates.values
            columns["values"] += b"%g" % scores.reward if scores.HasField("reward") else b""
        parts += columns.values()
    return hashlib.sha256(repr(parts).encode()).digest()


class FakeTeacher:
    """Describes itself, and judges by the text; `working` is its worker on the queue."""

    def __init__(self, tokenizer: bytes = TOKENIZER, can: Capabilities = ALL, away: bool = False, head: bytes = b"") -> None:
        self.info = ModelInfo(TEACHER_REF, tokenizer, bytes(32), TOKENS, TOKENS, "f32", "fake", "1", "1", can, head)
        self.away = away
        self.graded: Counter[str] = Counter()
        self.grade_errors: list[PreceptorError] = []
        self.silent_on = ""
        self.grader, self.group_sizes = "verbal", list[int]()
        self.stepping: tuple[str, ...] = ()

    async def describe(self, request: teacher_pb2.DescribeRequest, *, deadline_s: float) -> teacher_pb2.DescribeReply:
        if self.away:
            raise Unavailable("nobody listens at 127.0.0.1:50051", retry_after_s=0.01)
        can = Capabilities(graders=(self.grader,), stepping_graders=self.stepping)
        judge = replace(self.info, model=ModelRef(JUDGE), tokenizer_sha256=b"", capabilities=can)
        return teacher_pb2.DescribeReply(teachers=[wire.model_info_to_proto(judge if request.teacher == JUDGE else self.info)])

    async def grade(self, request: teacher_pb2.GradeRequest, *, deadline_s: float) -> teacher_pb2.GradeReply:
        assert request.spec.grader == self.grader
        self.group_sizes.append(len(request.items))
        reply = teacher_pb2.GradeReply()
        for item in request.items:
            if self.grade_errors:
                error = self.grade_errors.pop(0)
                reply.results.add().error.CopyFrom(common_pb2.ErrorDetail(code=str(error.code), message=error.message))
                continue
            self.graded[f"{item.prompt}: {item.response}"] += 1
            is_missing = item.prompt == self.silent_on
            validity = common_pb2.VALIDITY_MISSING_PROVIDER if is_missing else common_pb2.VALIDITY_OK
            reward = float("nan") if is_missing else float(number(item.response) % 11)
            reply.results.add().verdict.CopyFrom(teacher_pb2.Verdict(validity=validity, reward=reward, calls=1, prompt_tokens=10))
        return reply


def scores_of(ids: Sequence[int], start: int, lists: RaggedIds | None) -> Rows:
    """A row says something of its own token and place, so that a row at the wrong place is seen."""
    count = len(ids)
    sampled = np.array([-(one + 1) / 100 - (start + r) / 1000 for r, one in enumerate(ids)], np.float32)
    topk = IdLogprobs(np.tile(np.array([40, 41], np.uint32), (count, 1)), np.tile(np.array([-3, -4], np.float32), (count, 1)))
    listed = None if lists is None else RaggedLogprobs(lists.offsets, (-(lists.ids + 1) / 7).astype(np.float32))
    tail = np.full(count, -2.0, np.float32)
    return Rows(start, np.zeros(count, np.uint8), sampled, None, tail, topk, listed)


async def work(queue: MemoryQueue, rows_at_once: int = 3, slow: float = 0.0) -> None:
    """Leases, scores and commits until it is cancelled."""
    while True:
        if not await queue.wait_ready(TEACHER, 0.05):
            continue
        for band in await queue.ready_bands(TEACHER):
            for lease in await queue.lease(band.flow, "worker", latest=TEACHER_REF, limit=8):
                await asyncio.sleep(slow)
                with suppress(Fenced):
                    await score_lease(queue, band.flow, lease, rows_at_once)


async def score_lease(queue: MemoryQueue, flow: Flow, lease, rows_at_once: int) -> None:
    ids, lists, closed = await _known(queue, flow, lease)
    envelopes = []
    for start in range(lease.next_row, len(ids), rows_at_once):
        end = min(start + rows_at_once, len(ids))
        some = None if lists is None else lists.rows_between(start, end)
        rows, _ = wire.rows_to_proto(scores_of(ids[start:end], start, some), wire.want_from_proto(lease.task.want).grade, TOKENS)
        receipt = wire.receipt_to_proto(Receipt(lease.model or TEACHER_REF))
        envelopes.append(teacher_pb2.Envelope(rows=rows, receipt=receipt))
    await queue.commit(lease, envelopes, max(len(ids), lease.scored_upto), Then.FINISH if closed else Then.RELEASE)


async def _known(queue: MemoryQueue, flow: Flow, lease) -> tuple[list[int], RaggedIds | None, bool]:
    task = lease.task
    if task.WhichOneof("source") == "inline":
        sequence = wire.sequence_from_proto(task.inline)
        return sequence.response_ids.tolist(), wire.want_from_proto(task.want).candidates, True
    view = await queue.read(LogName.of(flow.tenant, flow.job, wire.rollout_id_from_proto(task.rollout)), 0)
    parts = [entry for entry in view.entries if entry.segment.HasField("response")]
    ids = [one for part in parts for one in wire.ids_from_proto(part.segment.response).tolist()]
    rows = [lists.row(r) for part in parts for lists in [wire.ragged_from_proto(part.candidates)] for r in range(lists.row_count)]
    return ids, RaggedIds.from_rows(rows) if task.want.log_candidates else None, view.closed


# ---------------------------------------------------------------- the world


@dataclass
class World:
    """Everything that outlives a learner."""

    root: Path
    space: KeySpace = field(default_factory=KeySpace)
    student: FakeStudent = field(default_factory=FakeStudent)
    teacher: FakeTeacher = field(default_factory=FakeTeacher)
    plan: RunPlan = field(default_factory=plan)
    events: list[Event] = field(default_factory=list)
    patience: Patiences = PATIENCE
    writers: dict[str, FakeRollout] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.queue = MemoryQueue(space=self.space)
        self.rollout = FakeRollout(self.queue)

    def lose(self, kind: str = "") -> None:
        """What a server forgets: every key of one kind, or all of them."""
        held = self.space.keys()
        for key in held:
            if kind in ("", kind_of(key)):
                self.queue.lose(key)

    @asynccontextmanager
    async def working(self, **how: Any) -> AsyncGenerator[None]:
        worker = asyncio.create_task(work(self.queue, **how))
        try:
            yield
        finally:
            worker.cancel()
            with suppress(asyncio.CancelledError):
                await worker

    def learner(self, hooks: NoHooks | None = None, *, resume: bool = True) -> Learner:
        ports = Ports(self.rollout, self.student, cast(Any, self.teacher), self.queue, dict(self.writers))
        folder = RunFolder.of(self.root, RUN)
        return Learner(self.plan, ports, folder, resume, self.events.append, hooks or NoHooks(), self.patience)

    async def run(self, hooks: NoHooks | None = None) -> Summary:
        async with self.working():
            return await self.learner(hooks).run()
