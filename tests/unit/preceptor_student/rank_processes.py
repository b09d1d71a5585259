"""Ranks as processes of a test: rank 0 tells a story to its engine and writes down what happened, the others follow."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage] - public by its documentation
from torch.distributed.tensor import DTensor

from preceptor import wire
from preceptor.codec import HiddenDtype
from preceptor.errors import PreceptorError
from preceptor.recipes import CompiledRecipe, ObjectiveSpec
from preceptor.types import Grade, Hidden, Rows
from preceptor_student import accumulate, trainer
from preceptor_student.accumulate import Accumulator
from preceptor_student.engine import StudentEngine
from preceptor_student.ranks.engine import LeadingEngine, follow
from preceptor_student.ranks.group import Group
from preceptor_student.teacher_heads import head_in
from tests.unit.preceptor_student import stepping
from tests.unit.preceptor_student.test_engine import made_batches, made_items, spoil
from tests.unit.preceptor_student.test_preferences_in_engine import PREFERENCE, STALE, compiled_with, graded_items

Story = Callable[[LeadingEngine, Path], dict]
Fault = Callable[[int], None]
"""What is wrong with the process of a rank."""

TEACHER = stepping.TINY / "teacher"
HIDDEN = {"on": "rollouts", "teacher": "tutor", "signal": "hidden", "objective": "reverse_kl"}
LORA = {"lora": {"rank": 4, "alpha": 8.0}}
WAYS = {
    "f32": {},
    "bf16": {"precision": "bf16"},
    "lora": LORA,
    "lora-bf16-packed": LORA | {"precision": "bf16", "layout": "packed"},
}


def options(root: Path) -> dict:
    """Of an engine that knows the head of the bundled teacher."""
    return stepping.options(root) | {"teacher_heads": (str(TEACHER),)}


def recipe(way: str) -> CompiledRecipe:
    """A way of training with a running mean of what it trains, which scores nothing here."""
    mean = {"model": "tiny-student", "student_copy": {"kind": "ema", "decay": 0.75}, "view": "{prompt}"}
    terms = stepping.REVERSE_KL, stepping.REVERSE_KL | {"teacher": "mean", "name": "mean"}
    compiled = stepping.recipe(*terms, teachers={"tutor": {"model": "tiny-teacher"}, "mean": mean}, training=WAYS[way])
    return replace(compiled, objective=stepping.recipe().objective)


def batches_of(step: int) -> list[bytes]:
    """Three micro-batches; one; two, of which the second has no row to learn from."""
    if step == 1:
        return stepping.cut(made_items(1, count=5), 2)
    if step == 2:
        return made_batches(2, size=4)
    unread = made_items(4, count=2)
    for item in unread:
        for row in range(item.scores[0].rows.count):
            spoil(item, row)
    return [made_batches(3)[0], *stepping.cut(unread, 2)]


def meeting_point() -> TCPStore:
    """The store of a launcher, which outlives the ranks."""
    return TCPStore("127.0.0.1", 0, None, is_master=True, wait_for_workers=False)


def no_fault(rank: int) -> None:
    """Every rank is as it should be."""


def started(story: Story, folder: Path, port: int, deadline_s: float, ranks: int = 2, fault: Fault = no_fault) -> list[Any]:
    """The processes of all ranks."""
    context = multiprocessing.get_context("spawn")
    processes = []
    for rank in range(ranks):
        process = context.Process(target=run_rank, args=(story, fault, folder, port, rank, ranks, deadline_s))
        process.start()
        processes.append(process)
    return processes


def run_rank(story: Story, fault: Fault, folder: Path, port: int, rank: int, ranks: int, deadline_s: float) -> None:
    (folder / f"pid-{rank}").write_text(str(os.getpid()))
    store = TCPStore("127.0.0.1", port, None, is_master=False, timeout=timedelta(seconds=60))
    fault(rank)
    group = Group(store, rank, ranks, deadline_s)
    if rank:
        try:
            return follow(options(folder / "runs"), group)
        except PreceptorError as error:
            (folder / f"error-{rank}").write_text(f"{error.code} {error}")
            raise
    engine = LeadingEngine(options(folder / "runs"), group)
    (folder / "told.json").write_text(json.dumps(story(engine, folder)))
    engine.close()
    return None


# ---------------------------------------------------------------- faults


def starving(rank: int, who: int) -> None:
    """One rank asks for more memory than there is, in its first micro-batch."""

    def add(*_: Any) -> bool:
        return bool(torch.empty(1 << 60, dtype=torch.uint8).any())

    if rank == who:
        Accumulator.add = add  # pyright: ignore[reportAttributeAccessIssue]


def filling_up(rank: int, who: int) -> None:
    """One rank has no room on its disk for the first file of a checkpoint."""
    if rank != who:
        return
    save_file = trainer.save_file

    def first(*_: Any) -> None:
        trainer.save_file = save_file
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    trainer.save_file = first


def losing_count(rank: int, who: int) -> None:
    """The first loss of one rank is not a number."""
    if rank != who:
        return
    term_loss = accumulate.term_loss

    def first(*asked: Any) -> Any:
        accumulate.term_loss = term_loss
        loss, rows = term_loss(*asked)
        return loss * nan, rows

    accumulate.term_loss = first


# ---------------------------------------------------------------- stories


def training(engine: LeadingEngine, folder: Path, way: str) -> dict:
    """Three steps, durable after the second; the third twice, before and after going back to the second."""
    compiled = recipe(way)
    epoch = stepping.open_run(engine, compiled).epoch
    metrics = []
    for step in (1, 2, 3):
        metrics.append(dict(stepping.take_step(engine, compiled, batches_of(step), epoch, step).metrics))
        if step == 2:
            engine.checkpoint(stepping.student_pb2.CheckpointRequest(run="r", epoch=epoch))
    _save(engine, folder / "first")
    head = stepping.header(compiled, batches_of(3), epoch, 4)
    next(work := stepping.step_replies(engine, head, batches_of(3)))
    work.close()  # type: ignore[attr-defined]  # a caller that leaves in the middle of a step
    epoch = stepping.open_run(engine, compiled).epoch
    stepping.take_step(engine, compiled, batches_of(3), epoch, 3)
    _save(engine, folder / "again")
    request = stepping.student_pb2.EvaluateRequest(run="r", objective=head.objective)
    request.batch.ParseFromString(batches_of(1)[0])
    loss = engine.evaluate(request).metrics["loss"]
    engine.publish(stepping.student_pb2.PublishRequest(run="r", epoch=epoch))
    return {"metrics": metrics, "evaluated": loss, "local_share": _local_share(engine)}


def durable(engine: LeadingEngine, folder: Path, way: str) -> dict:
    """Opens the run, writes what was read, if there was anything, takes one step and makes it durable."""
    status = stepping.open_run(engine, recipe(way))
    if status.durable_step:
        _save(engine, folder / "read")
    stepping.take_step(engine, recipe(way), batches_of(1), status.epoch, status.durable_step + 1)
    engine.checkpoint(stepping.student_pb2.CheckpointRequest(run="r", epoch=status.epoch))
    return {"found_step": status.durable_step}


def looking_further(engine: StudentEngine, folder: Path) -> dict:
    """Steps whose losses look further than at a row and its lists, and an evaluation before each."""
    compiled, found = recipe("bf16"), []
    epoch = stepping.open_run(engine, compiled).epoch
    for step, (objective, batches) in enumerate(further_steps(), start=1):
        told = replace(compiled, objective=objective)
        asked = stepping.student_pb2.EvaluateRequest(run="r", objective=stepping.header(told, [], epoch, step).objective)
        asked.batch.ParseFromString(b"".join(batches))
        found.append(dict(engine.evaluate(asked).metrics))
        found.append(dict(stepping.take_step(engine, told, batches, epoch, step).metrics))
    told, fitting = replace(compiled, objective=stepping.recipe(HIDDEN).objective), stepping.cut(items_of_states(), 2)
    wide = fitting[:1] + stepping.cut(items_of_states(1), 2)[1:]  # which rank 1 alone would read
    return {"metrics": found, "refused": _answer(engine, told, wide, epoch, 4), "taken": _answer(engine, told, fitting, epoch, 4)}


def further_steps() -> list[tuple[ObjectiveSpec, list[bytes]]]:
    """Pairs of responses from different micro-batches, stale rewards of groups, every token of a teacher that gives states."""
    graded = [(compiled_with(term).objective, stepping.cut(graded_items(), 1)) for term in (PREFERENCE, STALE)]
    return [*graded, (stepping.recipe(HIDDEN).objective, stepping.cut(items_of_states(), 2))]


def items_of_states(too_wide: int = 0) -> list[stepping.student_pb2.TrainItem]:
    """Rows of random states before the head of the bundled teacher."""
    head, generator, items = head_in(TEACHER, torch.float32), np.random.default_rng(6), made_items(6)
    for item in items:
        rows = item.scores[0].rows
        states = generator.normal(size=(rows.count, head.weight_vh.shape[1] + too_wide)).astype(np.float32)
        hidden = Hidden(states, HiddenDtype.F32, head.sha256())
        message, _ = wire.rows_to_proto(Rows(0, np.zeros(rows.count, np.uint8), hidden=hidden), Grade.F32, head.rows)
        rows.CopyFrom(message)
    return items


def several_runs(engine: LeadingEngine, folder: Path) -> dict:
    """Two adapters over one base, in turns."""
    runs = ["r", "other"]
    epochs = {run: stepping.open_run(engine, recipe("lora"), run).epoch for run in runs}
    models = [engine._runs[run].trainer.model for run in runs]
    for step in (1, 2):
        for run, batches in zip(runs, (batches_of(step), batches_of(step + 1)), strict=True):
            stepping.take_step(engine, recipe("lora"), batches, epochs[run], step, run)
    frozen = [[one for one in model.parameters() if not one.requires_grad and isinstance(one, DTensor)] for model in models]
    places = [{one.to_local().data_ptr() for one in parts} for parts in frozen]
    _save(engine, folder / "first")
    return {"shared": len(places[0] & places[1]), "frozen": len(places[0])}


def _save(engine: LeadingEngine, folder: Path, run: str = "r") -> None:
    folder.mkdir()
    engine._runs[run].trainer.save(folder)


def _local_share(engine: LeadingEngine) -> float:
    """How much of the model this rank holds, what is frozen with it."""
    parameters = list(engine._runs["r"].trainer.model.parameters())
    return sum(one.to_local().numel() for one in parameters if isinstance(one, DTensor)) / sum(one.numel() for one in parameters)


def failing(engine: LeadingEngine, folder: Path) -> dict:
    """The same step twice, whatever becomes of it."""
    epoch = stepping.open_run(engine, recipe("f32")).epoch
    return {"answers": [_answer(engine, recipe("f32"), batches_of(1), epoch, 1) for _ in range(2)]}


def crowded(engine: LeadingEngine, folder: Path) -> dict:
    """A checkpoint twice."""
    epoch, answers = stepping.open_run(engine, recipe("lora")).epoch, []
    stepping.take_step(engine, recipe("lora"), batches_of(1), epoch, 1)
    for _ in range(2):
        try:
            reply = engine.checkpoint(stepping.student_pb2.CheckpointRequest(run="r", epoch=epoch))
            answers.append(["OK", reply.durable_step])
        except PreceptorError as error:
            answers.append([error.code, str(error)])
        answers[-1].append(sorted(path.name for path in (folder / "runs/r/checkpoints").iterdir()))
    return {"answers": answers}


def _answer(engine: StudentEngine, compiled: CompiledRecipe, batches: list[bytes], epoch: int, step: int) -> list[Any]:
    try:
        return ["OK", dict(stepping.take_step(engine, compiled, batches, epoch, step).metrics)]
    except PreceptorError as error:
        return [error.code, str(error)]


def killed(engine: LeadingEngine, folder: Path) -> dict:
    return _parted(engine, folder, signal.SIGKILL, "lora")


def stalled(engine: LeadingEngine, folder: Path) -> dict:
    return _parted(engine, folder, signal.SIGSTOP, "bf16")


def leaving(engine: LeadingEngine, folder: Path) -> dict:
    """Rank 0 is gone without a word."""
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


def _parted(engine: LeadingEngine, folder: Path, number: signal.Signals, way: str) -> dict:
    """One step is durable; in the middle of the next the other rank is gone."""
    durable(engine, folder, way)
    epoch, batches, errors = engine._runs["r"].epoch, batches_of(2) * 3, []
    next(work := stepping.step_replies(engine, stepping.header(recipe(way), batches, epoch, 2), batches))
    os.kill(int((folder / "pid-1").read_text()), number)
    for rest in (work, stepping.step_replies(engine, stepping.header(recipe(way), batches, epoch, 2), batches)):
        try:
            list(rest)
        except PreceptorError as error:
            errors.append([error.code, str(error)])
    return {"errors": errors}
