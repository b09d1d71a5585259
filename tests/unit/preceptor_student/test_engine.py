"""The training engine: once per step, one writer, durable to the bit, and rows without a score that change nothing."""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
import signal
from collections.abc import Generator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer

from preceptor import wire
from preceptor.errors import ConfigurationError, Conflict, Corrupt, Exhausted, Fenced, Gap, InvalidArgument, NotFound, Unavailable
from preceptor.types import Grade, Validity
from preceptor_proto.v1 import student_pb2
from preceptor_serving.weights import find_version, verify
from preceptor_student.engine import StudentEngine
from tests.reference.opd_loop import Rollouts
from tests.unit.preceptor_student import stepping

PROMPT, VOCABULARY = [1, 3, 57, 48, 4], 261


def made_items(seed: int, count: int = 4, rows: int = 5, topk: int = 4) -> list[student_pb2.TrainItem]:
    """Rollouts and a teacher of random numbers: what the engine does with them does not depend on their sense."""
    generator = torch.Generator().manual_seed(seed)
    response = torch.randint(5, VOCABULARY, (count, rows), generator=generator)
    valid = torch.arange(rows)[None] < torch.randint(2, rows + 1, (count, 1), generator=generator)
    teacher = (2 * torch.randn(count, rows, VOCABULARY, generator=generator)).log_softmax(-1)
    top = torch.randint(0, VOCABULARY, (count, rows, 8), generator=generator)
    prompts = torch.arange(count) // 2
    rollouts = Rollouts(prompts, torch.tensor([PROMPT] * count), response, valid, top)
    return stepping.items(rollouts, teacher, topk=8)


def made_batches(seed: int, size: int = 2) -> list[bytes]:
    return stepping.cut(made_items(seed), size)


def opened(root: Path, compiled=None, **changes) -> tuple[StudentEngine, int]:
    student = stepping.engine(root, **changes)
    return student, stepping.open_run(student, compiled or stepping.recipe()).epoch


def same(a: Mapping[str, torch.Tensor], b: Mapping[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# ---------------------------------------------------------------- once per step


def test_a_step_is_applied_once_and_its_repeat_answers_the_same(tmp_path):
    compiled = stepping.recipe()
    student, epoch = opened(tmp_path)
    first = stepping.take_step(student, compiled, made_batches(1), epoch, 1)
    weights = stepping.weights_of(student)
    again = stepping.take_step(student, compiled, made_batches(1), epoch, 1)
    assert (first.repeated_step, again.repeated_step) == (False, True)
    assert dict(first.metrics) == dict(again.metrics)
    assert same(weights, stepping.weights_of(student))
    assert student.status("r").applied_step == 1


def test_other_bytes_for_an_applied_step_conflict_and_a_step_too_far_is_a_gap(tmp_path):
    compiled = stepping.recipe()
    student, epoch = opened(tmp_path)
    for step in (1, 2):
        stepping.take_step(student, compiled, made_batches(step), epoch, step)
    weights = stepping.weights_of(student)
    with pytest.raises(Conflict):
        stepping.take_step(student, compiled, made_batches(9), epoch, 1)
    with pytest.raises(Conflict):
        stepping.take_step(student, compiled, made_batches(9), epoch, 2)
    with pytest.raises(Gap) as gap:
        stepping.take_step(student, compiled, made_batches(9), epoch, 4)
    assert gap.value.limit == "3"
    assert same(weights, stepping.weights_of(student))


def test_bytes_that_the_header_does_not_name_are_refused(tmp_path):
    compiled = stepping.recipe()
    student, epoch = opened(tmp_path)
    head = stepping.header(compiled, made_batches(1), epoch, 1)
    for batches in (made_batches(2), made_batches(1)[:1], made_batches(1)[::-1]):
        with pytest.raises(InvalidArgument):
            list(stepping.step_replies(student, head, batches))
    assert student.status("r").applied_step == 0


def test_an_older_epoch_is_fenced_off(tmp_path):
    compiled = stepping.recipe()
    student, old = opened(tmp_path)
    new = stepping.open_run(student, compiled).epoch
    assert new == old + 1
    with pytest.raises(Fenced):
        stepping.take_step(student, compiled, made_batches(1), old, 1)
    with pytest.raises(Fenced):
        student.checkpoint(student_pb2.CheckpointRequest(run="r", epoch=old))
    with pytest.raises(Fenced):
        student.publish(student_pb2.PublishRequest(run="r", epoch=old))
    stepping.take_step(student, compiled, made_batches(1), new, 1)


def test_opening_the_run_in_the_middle_of_a_step_fences_that_step(tmp_path):
    compiled = stepping.recipe()
    student, epoch = opened(tmp_path)
    work = stepping.step_replies(student, stepping.header(compiled, made_batches(1), epoch, 1), made_batches(1))
    assert next(work) == b""
    stepping.open_run(student, compiled)
    with pytest.raises(Fenced):
        list(work)
    assert student.status("r").applied_step == 0


def test_a_caller_who_leaves_in_the_middle_of_a_step_has_changed_nothing(tmp_path):
    compiled = stepping.recipe()
    student, epoch = opened(tmp_path)
    before = stepping.weights_of(student)
    work = stepping.step_replies(student, stepping.header(compiled, made_batches(1), epoch, 1), made_batches(1))
    next(work)
    with pytest.raises(Unavailable):
        student.publish(student_pb2.PublishRequest(run="r", epoch=epoch))
    assert isinstance(work, Generator)
    work.close()
    assert same(before, stepping.weights_of(student))
    left = stepping.take_step(student, compiled, made_batches(1), epoch, 1)
    fresh, other = opened(tmp_path / "fresh")
    assert dict(left.metrics) == dict(stepping.take_step(fresh, compiled, made_batches(1), other, 1).metrics)


# ---------------------------------------------------------------- durable


def test_a_resumed_run_repeats_every_bit(tmp_path):
    compiled = stepping.recipe()
    straight, epoch = opened(tmp_path / "a")
    for step in range(1, 5):
        stepping.take_step(straight, compiled, made_batches(step), epoch, step)
    first, epoch = opened(tmp_path / "b")
    for step in (1, 2):
        stepping.take_step(first, compiled, made_batches(step), epoch, step)
    reply = first.checkpoint(student_pb2.CheckpointRequest(run="r", epoch=epoch))
    stepping.take_step(first, compiled, made_batches(3), epoch, 3)
    first.close()
    second, epoch = opened(tmp_path / "b")
    status = second.status("r")
    assert (status.applied_step, status.durable_step, reply.durable_step) == (2, 2, 2)
    assert stepping.take_step(second, compiled, made_batches(2), epoch, 2).repeated_step
    for step in (3, 4):
        stepping.take_step(second, compiled, made_batches(step), epoch, step)
    assert same(stepping.weights_of(straight), stepping.weights_of(second))
    assert same(straight._runs["r"].trainer.updater.state(), second._runs["r"].trainer.updater.state())


def test_a_run_goes_back_to_a_step_that_it_still_has(tmp_path):
    compiled = stepping.recipe()
    student, epoch = opened(tmp_path)
    seen = {}
    for step in (1, 2, 3):
        stepping.take_step(student, compiled, made_batches(step), epoch, step)
        student.checkpoint(student_pb2.CheckpointRequest(run="r", epoch=epoch))
        seen[step] = stepping.weights_of(student)
    stepping.open_run(student, compiled, restore_step=2)
    assert same(seen[2], stepping.weights_of(student))
    with pytest.raises(NotFound) as gone:
        stepping.open_run(student, compiled, restore_step=1)
    assert gone.value.limit == "2, 3"
    epoch = stepping.open_run(student, compiled).epoch
    assert student.status("r").applied_step == 2
    stepping.take_step(student, compiled, made_batches(3), epoch, 3)
    assert same(seen[3], stepping.weights_of(student))


def test_a_damaged_checkpoint_is_refused_by_name(tmp_path):
    compiled = stepping.recipe()
    student, epoch = opened(tmp_path)
    stepping.take_step(student, compiled, made_batches(1), epoch, 1)
    student.checkpoint(student_pb2.CheckpointRequest(run="r", epoch=epoch))
    student.close()
    path = tmp_path / "r" / "checkpoints" / "step-1" / "optimizer.safetensors"
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    with pytest.raises(Corrupt, match=r"optimizer\.safetensors"):
        opened(tmp_path)


def test_after_a_damaged_checkpoint_the_run_goes_on_from_the_one_before(tmp_path):
    compiled = stepping.recipe()
    student, epoch = opened(tmp_path)
    for step in (1, 2):
        stepping.take_step(student, compiled, made_batches(step), epoch, step)
        student.checkpoint(student_pb2.CheckpointRequest(run="r", epoch=epoch))
    wanted = stepping.weights_of(student)
    student.close()
    path = tmp_path / "r" / "checkpoints" / "step-2" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    student = stepping.engine(tmp_path)
    with pytest.raises(Corrupt, match=r"step-2/model\.safetensors"):
        stepping.open_run(student, compiled)
    epoch = stepping.open_run(student, compiled, restore_step=1).epoch
    stepping.take_step(student, compiled, made_batches(2), epoch, 2)
    student.checkpoint(student_pb2.CheckpointRequest(run="r", epoch=epoch))
    student.close()
    student, _ = opened(tmp_path)
    assert same(wanted, stepping.weights_of(student))


def disk_full(_tensors: object, path: Path) -> None:
    """What safetensors leaves and raises on a full disk: read off a full tmpfs."""
    Path(path).write_bytes(b"half")
    raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


@pytest.mark.parametrize("what", ["checkpoint", "publish"])
@pytest.mark.parametrize("name", ["r", "adapter"])
def test_a_full_disk_is_told_and_the_old_checkpoint_stays_good(what, name, tmp_path, monkeypatch):
    compiled = stepping.recipe(training={"lora": {"rank": 2}} if name == "adapter" else {})
    student, epoch = opened(tmp_path, compiled)
    stepping.take_step(student, compiled, made_batches(1), epoch, 1)
    request = student_pb2.CheckpointRequest(run="r", epoch=epoch)
    publish = student_pb2.PublishRequest(run="r", epoch=epoch)
    first = student.checkpoint(request)
    stepping.take_step(student, compiled, made_batches(2), epoch, 2)
    weights = stepping.weights_of(student)
    with monkeypatch.context() as patched:
        for module in ("preceptor_student.trainer", "preceptor_serving.models.adapters", "transformers.modeling_utils"):
            saver = "safe_save_file" if module == "transformers.modeling_utils" else "save_file"
            patched.setattr(importlib.import_module(module), saver, lambda tensors, path, **_: disk_full(tensors, path))
        with pytest.raises(Exhausted, match="no room"):
            student.checkpoint(request) if what == "checkpoint" else student.publish(publish)
    assert (student.status("r").durable_step, student.status("r").applied_step) == (1, 2)
    assert not list(tmp_path.rglob(".tmp-*"))
    verify(tmp_path / "r" / "checkpoints" / "step-1", first.manifest_sha256)
    assert student.checkpoint(request).durable_step == 2  # once there is room again
    student.close()
    student, _ = opened(tmp_path, compiled)
    assert same(weights, stepping.weights_of(student))


def test_two_processes_never_train_one_run(tmp_path):
    student, _ = opened(tmp_path)
    with pytest.raises(Unavailable, match="another process"):
        opened(tmp_path)
    student.close()
    opened(tmp_path)


def test_a_run_keeps_the_configuration_that_it_was_started_with(tmp_path):
    student, epoch = opened(tmp_path)
    other = stepping.recipe(optimizer=stepping.OPTIMIZER | {"learning_rate": 1.0})
    with pytest.raises(Conflict, match="optimizer"):
        stepping.open_run(student, other)
    stepping.take_step(student, stepping.recipe(), made_batches(1), epoch, 1)  # the refusal did not disturb the writer


def test_a_mistyped_configuration_is_refused_with_the_near_name(tmp_path):
    student = stepping.engine(tmp_path)
    with pytest.raises(ConfigurationError, match="learning_rat") as refused:
        student.open_run(student_pb2.OpenRunRequest(run="r", config_json='{"optimizer": {"learning_rat": 1}}'))
    assert "learning_rate" in str(refused.value)


def die(*_args: object, **_named: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def step_and_die_in_checkpoint(root: Path, module: str, name: str) -> None:
    student, epoch = opened(root)
    stepping.take_step(student, stepping.recipe(), made_batches(2), epoch, 2)
    setattr(importlib.import_module(f"preceptor_student.{module}"), name, die)
    student.checkpoint(student_pb2.CheckpointRequest(run="r", epoch=epoch))


@pytest.mark.parametrize(("module", "name"), [("checkpoints", "write_manifest"), ("checkpoints", "prune"), ("run", "replace")])
def test_killed_while_writing_a_checkpoint_the_run_goes_on_from_a_whole_one(module, name, tmp_path):
    compiled = stepping.recipe()
    student, epoch = opened(tmp_path)
    stepping.take_step(student, compiled, made_batches(1), epoch, 1)
    student.checkpoint(student_pb2.CheckpointRequest(run="r", epoch=epoch))
    student.close()
    child = multiprocessing.get_context("fork").Process(target=step_and_die_in_checkpoint, args=(tmp_path, module, name))
    child.start()
    child.join(60)
    assert child.exitcode == -signal.SIGKILL
    student, epoch = opened(tmp_path)
    status = student.status("r")
    assert status.durable_step == status.applied_step == (2 if name == "prune" else 1)
    assert not list(tmp_path.glob("r/*/.tmp-*"))
    if status.applied_step == 1:
        stepping.take_step(student, compiled, made_batches(2), epoch, 2)
    fresh, other = opened(tmp_path / "fresh")
    for step in (1, 2):
        stepping.take_step(fresh, compiled, made_batches(step), other, step)
    assert same(stepping.weights_of(fresh), stepping.weights_of(student))


def test_when_room_is_needed_a_run_that_loses_nothing_is_closed(tmp_path):
    compiled = stepping.recipe()
    student = stepping.engine(tmp_path, max_open_runs=2)
    epochs = {name: stepping.open_run(student, compiled, name).epoch for name in ("a", "b")}
    stepping.take_step(student, compiled, made_batches(1), epochs["a"], 1, "a")
    stepping.open_run(student, compiled, "c")
    with pytest.raises(NotFound):
        stepping.take_step(student, compiled, made_batches(1), epochs["b"], 1, "b")
    assert student.status("a").applied_step == 1
    assert student.status("b").applied_step == 0


# ---------------------------------------------------------------- evaluated


def evaluated(student: StudentEngine, compiled, items: list[student_pb2.TrainItem]) -> student_pb2.EvaluateReply:
    objective = student_pb2.ObjectiveSpec(schema=1, json=compiled.objective.to_json())
    return student.evaluate(student_pb2.EvaluateRequest(run="r", objective=objective, batch=student_pb2.MicroBatch(items=items)))


@pytest.mark.parametrize("term", [stepping.REVERSE_KL, stepping.K1])
def test_evaluation_is_the_loss_of_the_next_step_and_moves_nothing(term, tmp_path):
    compiled = stepping.recipe(term)
    student, epoch = opened(tmp_path, compiled)
    stepping.take_step(student, compiled, made_batches(1), epoch, 1)
    before, items = stepping.weights_of(student), made_items(2)
    found = evaluated(student, compiled, items)
    assert same(before, stepping.weights_of(student))
    assert found.applied_step == student.status("r").applied_step == 1
    reply = stepping.take_step(student, compiled, stepping.cut(items, 100), epoch, 2)
    shown = dict(found.metrics)
    assert shown == {name: value for name, value in reply.metrics.items() if name in shown}
    assert {"loss", "reverse_kl"} <= shown.keys()
    assert not {"grad_norm", "learning_rate"} & shown.keys()
    assert (found.valid_rows, found.skipped_rows) == (reply.valid_rows, reply.skipped_rows)
    assert evaluated(student, compiled, items).metrics["loss"] != shown["loss"]  # other weights now


def test_evaluation_waits_for_no_gradient_of_a_step_that_is_computed(tmp_path):
    """A step pauses with gradients gathered: who evaluates then is told to come again, and the step ends as if nobody had."""
    compiled = stepping.recipe()
    student, epoch = opened(tmp_path)
    work = stepping.step_replies(student, stepping.header(compiled, made_batches(1), epoch, 1), made_batches(1))
    next(work)
    with pytest.raises(Unavailable):
        evaluated(student, compiled, made_items(2))
    *_, last = work
    fresh, other = opened(tmp_path / "fresh")
    assert (
        student_pb2.StepReply.FromString(last).metrics == stepping.take_step(fresh, compiled, made_batches(1), other, 1).metrics
    )


# ---------------------------------------------------------------- published


def test_a_published_version_is_found_by_its_name_and_loads_as_the_same_weights(tmp_path):
    compiled = stepping.recipe()
    student, epoch = opened(tmp_path)
    stepping.take_step(student, compiled, made_batches(1), epoch, 1)
    reply = student.publish(student_pb2.PublishRequest(run="r", epoch=epoch))
    ref = wire.model_ref_from_proto(reply.model)
    assert (ref.name, ref.run, ref.epoch, ref.step) == ("tiny-student", "r", epoch, 1)
    assert wire.model_ref_from_proto(student.status("r").published) == ref
    folder = find_version([tmp_path], ref).folder
    loaded = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ours = stepping.weights_of(student)
    assert all(torch.equal(ours[name], tensor) for name, tensor in loaded.named_parameters())
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.chat_template == (stepping.TINY / "student" / "chat_template.jinja").read_text()
    assert student.publish(student_pb2.PublishRequest(run="r", epoch=epoch)).model == reply.model
    with pytest.raises(Conflict):
        find_version([tmp_path], replace(ref, manifest_sha256=bytes(32)))


def test_old_checkpoints_and_versions_make_room_for_new_ones(tmp_path):
    compiled = stepping.recipe()
    student, epoch = opened(tmp_path)
    for step in range(1, 5):
        stepping.take_step(student, compiled, made_batches(step), epoch, step)
        student.checkpoint(student_pb2.CheckpointRequest(run="r", epoch=epoch))
        student.publish(student_pb2.PublishRequest(run="r", epoch=epoch))
    assert sorted(p.name for p in (tmp_path / "r" / "checkpoints").iterdir()) == ["step-3", "step-4"]
    names = sorted(p.name for p in (tmp_path / "r" / "versions").iterdir())
    assert names == [f"step-{step}-epoch-{epoch}" for step in (3, 4)]
    assert json.loads((tmp_path / "r" / "head.json").read_text())["durable_step"] == 4


# ---------------------------------------------------------------- rows


def reply_to(items, root: Path, compiled=None, size: int = 100):
    compiled = compiled or stepping.recipe()
    student, epoch = opened(root, compiled)
    reply = stepping.take_step(student, compiled, stepping.cut(items, size), epoch, 1)
    weights = stepping.weights_of(student)
    student.close()
    return reply, weights


TWO_TERMS = (stepping.REVERSE_KL | {"normaliser": "sequences", "weight": 0.5}, {**stepping.REVERSE_KL, "objective": "forward_kl"})


@pytest.mark.parametrize("terms", [(stepping.REVERSE_KL,), (stepping.K1,), TWO_TERMS])
def test_micro_batches_change_nothing_but_rounding(terms, tmp_path):
    compiled = stepping.recipe(*terms)
    whole, _ = reply_to(made_items(1), tmp_path / "0", compiled)
    for size in (1, 2, 3):
        parts, _ = reply_to(made_items(1), tmp_path / str(size), compiled, size)
        assert (parts.valid_rows, parts.skipped_rows) == (whole.valid_rows, whole.skipped_rows)
        assert parts.metrics.keys() == whole.metrics.keys()
        for name, value in whole.metrics.items():
            assert parts.metrics[name] == pytest.approx(value, rel=1e-5, abs=1e-7), name


def spoil(item: student_pb2.TrainItem, row: int) -> None:
    """Turns one row into a missing one: a validity byte, and NaN in its columns, as the codec would send it."""
    rows = item.scores[0].rows
    validity = bytearray(rows.validity)
    validity[row] = Validity.MISSING
    rows.validity = bytes(validity)
    for field in ("sampled_f32le", "tail_f32le"):
        column = np.frombuffer(getattr(rows, field), "<f4").copy()
        column[row] = np.nan
        setattr(rows, field, column.tobytes())
    for payload, width in ((rows.topk, 8), (rows.candidates, 8)):
        values = np.frombuffer(payload.values, "<f4").copy()
        values[row * width : (row + 1) * width] = np.nan
        payload.values = values.tobytes()


@pytest.mark.parametrize("term", [stepping.REVERSE_KL, stepping.K1])
def test_a_missing_last_row_trains_as_if_it_had_not_been_written(term, tmp_path):
    """Nothing is read behind the last row, so leaving it out of the rollout is what "contributes nothing" must equal."""
    compiled = stepping.recipe(term)
    spoiled, cut_short = made_items(1), made_items(1)
    last = spoiled[0].scores[0].rows.count - 1
    spoil(spoiled[0], last)
    _drop_last_row(cut_short[0])
    with_hole, weights = reply_to(spoiled, tmp_path / "hole", compiled)
    without, wanted = reply_to(cut_short, tmp_path / "short", compiled)
    assert (with_hole.skipped_rows, without.skipped_rows) == (1, 0)
    assert with_hole.valid_rows == without.valid_rows
    assert with_hole.metrics["loss"] == pytest.approx(without.metrics["loss"], rel=1e-6)
    assert max(float((weights[name] - wanted[name]).abs().max()) for name in weights) < 1e-6
    assert all(tensor.isfinite().all() for tensor in weights.values())


def _drop_last_row(item: student_pb2.TrainItem) -> None:
    sequence = wire.sequence_from_proto(item.sequence)
    shorter = sequence.response_ids[:-1]
    listed = wire.ragged_from_proto(item.student_topk)
    rows = wire.rows_from_proto(item.scores[0].rows, listed.offsets)
    assert rows.sampled is not None
    assert rows.tail is not None
    assert rows.topk is not None
    assert rows.candidates is not None
    count = len(shorter)
    kept = replace(
        rows,
        validity=rows.validity[:count],
        sampled=rows.sampled[:count],
        tail=rows.tail[:count],
        topk=replace(rows.topk, ids=rows.topk.ids[:count], logprobs=rows.topk.logprobs[:count]),
        candidates=replace(
            rows.candidates, offsets=rows.candidates.offsets[: count + 1], logprobs=rows.candidates.logprobs[: count * 8]
        ),
    )
    item.sequence.CopyFrom(wire.sequence_to_proto(type(sequence).of(sequence.segments[0].ids, shorter)))
    item.scores[0].rows.CopyFrom(wire.rows_to_proto(kept, Grade.F32, VOCABULARY)[0])
    item.student_topk.CopyFrom(wire.ragged_to_proto(listed.rows_between(0, count)))


SURPRISING = stepping.REVERSE_KL | {
    "token_weights": [{"op": "within", "params": {"of": "log_ratio", "at_most": 1.0}, "signal": "sampled"}]
}


@pytest.mark.parametrize("term", [stepping.REVERSE_KL, stepping.K1, SURPRISING], ids=["support", "k1", "gate"])
@pytest.mark.parametrize("silent", [(0,), (0, 1, 2, 3)])
def test_an_item_of_which_the_teacher_said_nothing_trains_as_if_it_were_not_there(silent, term, tmp_path):
    compiled, items = stepping.recipe(term), made_items(1)
    rows = sum(wire.sequence_from_proto(items[place].sequence).row_count for place in silent)
    for place in silent:
        del items[place].scores[:]
    kept = [item for item in items if item.scores]
    reply, weights = reply_to(items, tmp_path / "silent", compiled)
    assert reply.skipped_rows == rows
    if kept:
        without, wanted = reply_to(kept, tmp_path / "without", compiled)
        assert reply.valid_rows == without.valid_rows
        assert max(float((weights[name] - wanted[name]).abs().max()) for name in weights) < 1e-6


def test_a_step_without_any_valid_row_is_applied_and_moves_nothing(tmp_path):
    items = made_items(1)
    for item in items:
        del item.scores[:]
    student, epoch = opened(tmp_path)
    before = stepping.weights_of(student)
    reply = stepping.take_step(student, stepping.recipe(), stepping.cut(items, 2), epoch, 1)
    assert (reply.applied_step, reply.valid_rows) == (1, 0)
    assert reply.skipped_rows == sum(wire.sequence_from_proto(item.sequence).row_count for item in items)
    assert same(before, stepping.weights_of(student))


def test_scores_in_two_parts_are_the_same_as_in_one(tmp_path):
    whole, split = made_items(1), made_items(1)
    for item in split:
        _split_scores(item)
    assert len(split[0].scores) == 2
    a, b = reply_to(whole, tmp_path / "a")[0], reply_to(split, tmp_path / "b")[0]
    assert dict(a.metrics) == dict(b.metrics)


def _split_scores(item: student_pb2.TrainItem) -> None:
    listed = wire.ragged_from_proto(item.student_topk)
    rows = wire.rows_from_proto(item.scores[0].rows, listed.offsets)
    assert rows.sampled is not None
    assert rows.tail is not None
    assert rows.topk is not None
    assert rows.candidates is not None
    parts = []
    for start, end in ((0, 1), (1, rows.count)):
        part = slice(start, end)
        lists = listed.rows_between(start, end)
        parts.append(
            replace(
                rows,
                start=start,
                validity=rows.validity[part],
                sampled=rows.sampled[part],
                tail=rows.tail[part],
                topk=replace(rows.topk, ids=rows.topk.ids[part], logprobs=rows.topk.logprobs[part]),
                candidates=replace(
                    rows.candidates, offsets=lists.offsets, logprobs=rows.candidates.logprobs[start * 8 : end * 8]
                ),
            )
        )
    del item.scores[:]
    for part in parts:
        if part.count:
            message, _ = wire.rows_to_proto(part, Grade.F32, VOCABULARY)
            item.scores.add(source="tutor", rows=message)


def test_a_row_that_is_scored_twice_is_refused(tmp_path):
    items = made_items(1)
    items[0].scores.append(items[0].scores[0])
    with pytest.raises(InvalidArgument, match=r"scores\[tutor\]\.rows"):
        reply_to(items, tmp_path)


@pytest.mark.parametrize(
    ("spoiler", "field"),
    [
        (lambda item: setattr(item, "weight", 0.0), "weight"),
        (lambda item: setattr(item, "source", "elsewhere"), "source"),
        (lambda item: item.sequence.segments[0].context.__setattr__("u32le", b"\xff\xff\0\0"), "sequence"),
        (lambda item: item.student_topk.ClearField("offsets_u32le"), "student_topk.offsets_u32le"),
        (lambda item: item.scores[0].candidates.SetInParent(), "scores[tutor].candidates.offsets_u32le"),
    ],
)
def test_an_item_that_makes_no_sense_is_refused_by_name_and_nothing_is_applied(spoiler, field, tmp_path):
    items = made_items(1)
    spoiler(items[1])
    student, epoch = opened(tmp_path)
    with pytest.raises(InvalidArgument) as refused:
        stepping.take_step(student, stepping.recipe(), stepping.cut(items, 2), epoch, 1)
    assert field in refused.value.field
    assert student.status("r").applied_step == 0
    stepping.take_step(student, stepping.recipe(), made_batches(1), epoch, 1)


def test_a_rewards_term_compares_groups_over_the_whole_step(tmp_path):
    term = {
        "on": "rollouts",
        "teacher": "tutor",
        "signal": {"op": "reward", "params": {"grader": "g"}},
        "objective": "policy_gradient",
        "advantage": "group_relative",
    }
    items = made_items(1)
    for index, item in enumerate(items):
        del item.scores[:]
        item.scores.add(source="tutor", reward=float(index))
    del items[3].scores[:]  # its group is a group of one now
    compiled = stepping.recipe(term)
    reply, _ = reply_to(items, tmp_path / "a", compiled)
    apart, _ = reply_to(items, tmp_path / "b", compiled, size=1)
    assert reply.metrics["loss"] == pytest.approx(apart.metrics["loss"], rel=1e-6)
    assert reply.skipped_rows == wire.sequence_from_proto(items[3].sequence).row_count
    for item in items[:3]:
        item.scores[0].reward += 10.0
    moved, _ = reply_to(items, tmp_path / "c", compiled)
    assert moved.metrics["grad_norm"] == pytest.approx(reply.metrics["grad_norm"], rel=1e-5)
    items[0].scores[0].reward += 1.0
    other, _ = reply_to(items, tmp_path / "d", compiled)
    assert abs(other.metrics["grad_norm"] - reply.metrics["grad_norm"]) > 1e-3


def test_what_each_term_brings_adds_up_to_the_step(tmp_path):
    first, second = TWO_TERMS
    plain, _ = reply_to(made_items(1), tmp_path / "a", stepping.recipe(first, second), size=3)
    twice, _ = reply_to(made_items(1), tmp_path / "b", stepping.recipe(first | {"weight": 1.0}, second), size=3)
    for found in (plain.metrics, twice.metrics):
        norms, shares, losses = (
            [found[f"term.{name}.{figure}"] for name in ("reverse_kl", "forward_kl")]
            for figure in ("gradient_norm", "gradient_share", "loss")
        )
        assert sum(losses) == pytest.approx(found["loss"])
        assert shares == pytest.approx([norm / sum(norms) for norm in norms])
        assert min(shares) > 0.01
    for figure in ("loss", "gradient_norm"):
        assert twice.metrics[f"term.reverse_kl.{figure}"] == pytest.approx(2 * plain.metrics[f"term.reverse_kl.{figure}"])
        assert twice.metrics[f"term.forward_kl.{figure}"] == pytest.approx(plain.metrics[f"term.forward_kl.{figure}"])


def test_ramps_move_with_the_step(tmp_path):
    ramp = {"schedule": "linear", "start": 1.0, "end": 0.0, "steps": 2}
    compiled = stepping.recipe(stepping.REVERSE_KL | {"weight": ramp}, optimizer={"learning_rate": 1e-3, "warmup_steps": 4})
    student, epoch = opened(tmp_path, compiled)
    seen = [stepping.take_step(student, compiled, made_batches(1), epoch, step).metrics for step in (1, 2, 3)]
    assert [one["term.reverse_kl.weight"] for one in seen] == [1.0, 0.5, 0.0]
    assert [one["learning_rate"] for one in seen] == pytest.approx([2.5e-4, 5e-4, 7.5e-4])
    assert seen[2]["grad_norm"] == 0.0


def test_the_temperature_divides_the_students_logits_too(tmp_path):
    plain, _ = reply_to(made_items(1), tmp_path / "a", stepping.recipe(stepping.K1))
    hot, _ = reply_to(made_items(1), tmp_path / "b", stepping.recipe(stepping.K1, temperature=2.0))
    assert abs(hot.metrics["reverse_kl"] - plain.metrics["reverse_kl"]) > 1e-2
