"""The training engine: the runs of one process, as calls from bytes to bytes.

| method | request | replies |
|---|---|---|
| open_run | OpenRunRequest | StudentStatus |
| status | StudentStatusRequest | StudentStatus |
| step | `pack([StepHeader, MicroBatch ...])` | an empty one after each micro-batch, then StepReply |
| checkpoint | CheckpointRequest | CheckpointReply |
| publish | PublishRequest | PublishReply |
| evaluate | EvaluateRequest | EvaluateReply |
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from google.protobuf.message import Message
from pydantic import BaseModel, Field

from preceptor import wire
from preceptor.errors import Exhausted, Fenced, NotFound, Unsupported
from preceptor.recipes import RunConfig
from preceptor.recipes.load import validate
from preceptor.recipes.schedules import FROZEN
from preceptor.recipes.strict_yaml import parse_yaml
from preceptor.types import ModelInfo, ModelRef
from preceptor_proto.v1 import common_pb2, student_pb2
from preceptor_serving.engines.protocol import Method, Outcome, ScoreItem
from preceptor_serving.models.device import usable_device
from preceptor_serving.models.folder import check_folder
from preceptor_student.bases import Bases
from preceptor_student.pack import unpack
from preceptor_student.run import Run, RunSettings, TrainerFor
from preceptor_student.run_folder import Head, RunFolder, closed_head
from preceptor_student.teacher_heads import TeacherHeads
from preceptor_student.trainer import Trainer


class Options(BaseModel):
    """What the engine is made from; the service fills it from its settings."""

    model_config = FROZEN

    base: str
    device: str
    runs_root: str
    model_name: str
    threads: int = Field(ge=1)
    keep_checkpoints: int = Field(ge=1)
    keep_versions: int = Field(ge=1)
    max_open_runs: int = Field(ge=1)
    teacher_heads: tuple[str, ...]
    teacher_heads_bytes: int = Field(ge=1)


def create(options: Mapping[str, Any]) -> StudentEngine:
    """The engine, ready to open runs. Threads are pinned, a CPU's kernels deterministic: a resumed run repeats every bit."""
    return StudentEngine(prepared(options))


def prepared(options: Mapping[str, Any]) -> Options:
    """The options, checked, with this process set up for them."""
    chosen = validate(Options, dict(options), "options")
    torch.set_num_threads(chosen.threads)
    torch.use_deterministic_algorithms(mode=usable_device(chosen.device).type == "cpu")
    check_folder(Path(chosen.base))
    return chosen


def alone(bases: Bases, heads: TeacherHeads) -> TrainerFor:
    """Trainers of this process alone."""
    return lambda _, config: Trainer(bases, config, heads)


class StudentEngine:
    """Every open run by name, least recently opened first. `trainers` says who trains: this process, or this one and others."""

    def __init__(self, options: Options, trainers: Callable[[Bases, TeacherHeads], TrainerFor] = alone) -> None:
        self._options = options
        self._root = Path(options.runs_root)
        bases = Bases(Path(options.base), options.device)
        heads = [Path(folder) for folder in options.teacher_heads]
        self._heads = TeacherHeads(heads, options.teacher_heads_bytes, options.device)
        kept = options.keep_checkpoints, options.keep_versions
        self._settings = RunSettings(bases, options.model_name, *kept, trainers(bases, self._heads))
        self._runs: dict[str, Run] = {}

    def methods(self) -> Mapping[str, Method]:
        return {
            "open_run": _plain(student_pb2.OpenRunRequest, self.open_run),
            "status": _plain(student_pb2.StudentStatusRequest, lambda request: self.status(request.run)),
            "step": self.step,
            "checkpoint": _plain(student_pb2.CheckpointRequest, self.checkpoint),
            "publish": _plain(student_pb2.PublishRequest, self.publish),
            "evaluate": _plain(student_pb2.EvaluateRequest, self.evaluate),
        }

    # ---- calls

    def open_run(self, request: student_pb2.OpenRunRequest) -> student_pb2.StudentStatus:
        """Opens a run or takes it over, from its durable step or the one that is asked for."""
        for head in request.head_sha256:
            self._heads.get(head)
        config = validate(RunConfig, parse_yaml(request.config_json, "config_json"), "config_json")
        folder = self._folder(request.run)
        try:
            folder.check_config(self._settings.kept(config))
            self._runs.pop(request.run, None)  # only now: a wrong request does not disturb a running one
            restore_step = request.restore_step if request.HasField("restore_step") else None
            self._runs[request.run] = Run(folder, self._settings, config, restore_step)
        except BaseException:
            if request.run not in self._runs:
                folder.close()
            raise
        return self.status(request.run)

    def status(self, name: str) -> student_pb2.StudentStatus:
        """Where a run stands; one that is not open here stands at its durable step."""
        run = self._runs.get(name)
        if run is None:
            head = closed_head(self._root, name)
            return self._told(name, head, head.durable_step, b"")
        return self._told(name, run.folder.head, run.applied.step, run.applied.batch_sha256)

    def step(self, payload: bytes) -> Iterator[bytes]:
        """Applies one step."""
        header_bytes, *micro_batches = unpack(payload)
        header = student_pb2.StepHeader.FromString(header_bytes)
        return self._step(header, micro_batches)

    def checkpoint(self, request: student_pb2.CheckpointRequest) -> student_pb2.CheckpointReply:
        run = self._open(request.run)
        digest = run.checkpoint(request.epoch)
        return student_pb2.CheckpointReply(durable_step=run.durable_step, manifest_sha256=digest)

    def publish(self, request: student_pb2.PublishRequest) -> student_pb2.PublishReply:
        run = self._open(request.run)
        ref = run.publish(request.epoch)
        return student_pb2.PublishReply(model=wire.model_ref_to_proto(ref), copies=_copies(run.folder.head))

    def evaluate(self, request: student_pb2.EvaluateRequest) -> student_pb2.EvaluateReply:
        run = self._open(request.run)
        found = run.evaluate(request.objective, request.batch)
        return student_pb2.EvaluateReply(
            metrics=found.metrics, applied_step=run.applied.step, valid_rows=found.valid_rows, skipped_rows=found.skipped_rows
        )

    # ---- the host's common calls: this engine trains, it does not score

    def describe(self) -> tuple[ModelInfo, ...]:
        return ()

    def score(self, items: Sequence[ScoreItem], version: ModelRef | None = None) -> list[Outcome]:
        raise Unsupported("the student service does not score", field="method", value="score")

    def load_version(self, version: ModelRef, folder: str) -> None:
        raise Unsupported("a run is restored by opening it", field="method", value="load_version")

    def drop_version(self, version: ModelRef) -> None:
        raise Unsupported("a run's versions are dropped by keeping fewer", field="method", value="drop_version")

    def close(self) -> None:
        for name in list(self._runs):
            self._close(name)

    # ---- runs

    def _step(self, header: student_pb2.StepHeader, micro_batches: Sequence[bytes]) -> Generator[bytes]:
        run = self._open(header.run)
        with closing(run.step(header, micro_batches)) as work:
            while True:
                try:
                    next(work)
                except StopIteration as finished:
                    applied, repeated = finished.value
                    break
                except Exception:
                    if run.is_torn:
                        self._close(header.run)
                    raise
                yield b""
                if self._runs.get(header.run) is not run:
                    raise Fenced(f"run {header.run!r} was opened again while this step was computed", field="epoch")
        yield student_pb2.StepReply(
            applied_step=run.applied.step,
            durable_step=run.durable_step,
            repeated_step=repeated,
            metrics=applied.metrics,
            valid_rows=applied.valid_rows,
            skipped_rows=applied.skipped_rows,
        ).SerializeToString()

    def _open(self, name: str) -> Run:
        if name not in self._runs:
            hint = "open it, then send from durable_step + 1"
            raise NotFound(f"run {name!r} is not open here", field="run", value=name, hint=hint)
        return self._runs[name]

    def _folder(self, name: str) -> RunFolder:
        """The run's folder, locked: the one that is open already, or a new one after room was made for it."""
        if name in self._runs:
            return self._runs[name].folder
        self._make_room()
        return RunFolder(self._root, name)

    def _close(self, name: str) -> None:
        self._runs.pop(name).close()

    def _told(self, run: str, head: Head, applied_step: int, digest: bytes) -> student_pb2.StudentStatus:
        published = head.published_ref
        return student_pb2.StudentStatus(
            run=run,
            epoch=head.epoch,
            applied_step=applied_step,
            durable_step=head.durable_step,
            published=None if published is None else wire.model_ref_to_proto(published),
            applied_batch_sha256=digest,
            copies=_copies(head),
            device=self._options.device,
        )

    def _make_room(self) -> None:
        """Closes the run that has been open longest among those that would lose nothing."""
        if len(self._runs) < self._options.max_open_runs:
            return
        if durable := next((name for name, run in self._runs.items() if run.is_durable), None):
            self._close(durable)
            return
        raise Exhausted("every open run has steps that are not durable", field="run", value=len(self._runs),
                        limit=self._options.max_open_runs, hint="checkpoint one, or raise max_open_runs")  # fmt: skip


def _copies(head: Head) -> dict[str, common_pb2.ModelRef]:
    return {name: wire.model_ref_to_proto(ref) for name, ref in head.copy_refs.items()}


def _plain(request_class: type[Any], answer: Callable[[Any], Message]) -> Method:
    def method(request: bytes) -> Iterator[bytes]:
        yield answer(request_class.FromString(request)).SerializeToString()

    return method
