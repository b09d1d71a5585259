"""Copies of the student that teach it: running means to the bit, versions that stay while a copy needs them, and their names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from preceptor import wire
from preceptor.errors import Conflict, Corrupt
from preceptor.recipes import compile_recipe, recipe_from
from preceptor.types import ModelRef
from preceptor_proto.v1 import student_pb2
from preceptor_serving.weights import find_version, verify
from tests.unit.preceptor_student import stepping
from tests.unit.preceptor_student.test_engine import made_batches, opened, same

DECAY = 0.75
COPIES = {
    "mean": {"kind": "ema", "decay": DECAY},
    "start": "frozen",
    "now": "current",
    "late": {"kind": "lagged", "every_steps": 2},
}


def recipe(training: dict | None = None):
    """Every copy scores; what it reads does not matter to the student service."""
    teachers = {name: {"model": "tiny-student", "student_copy": copy, "view": "{prompt}"} for name, copy in COPIES.items()}
    terms = [stepping.REVERSE_KL] + [stepping.REVERSE_KL | {"teacher": name, "name": name} for name in COPIES]
    return stepping.recipe(*terms, teachers={"tutor": {"model": "tiny-teacher"}} | teachers, training=training or {})


def told(compiled):
    """The same run, with the loss of the outside teacher alone: these tests score nothing with copies."""
    return replace(compiled, objective=stepping.recipe().objective)


def publish(student, epoch: int) -> dict[str, ModelRef]:
    reply = student.publish(student_pb2.PublishRequest(run="r", epoch=epoch))
    copies = {name: wire.model_ref_from_proto(ref) for name, ref in reply.copies.items()}
    return copies | {"student": wire.model_ref_from_proto(reply.model)}


def run(root: Path, steps: int, training: dict | None = None, compiled=None, **changes):
    compiled = compiled or told(recipe(training))
    student, epoch = opened(root, compiled, **changes)
    refs = [publish(student, epoch)]
    for step in range(1, steps + 1):
        stepping.take_step(student, compiled, made_batches(step), epoch, step)
        refs.append(publish(student, epoch))
    return student, epoch, refs


def weights(root: Path, ref: ModelRef) -> dict[str, torch.Tensor]:
    return load_file(next(find_version([root], ref).folder.glob("*.safetensors")))


def test_the_mean_is_its_formula_to_the_bit_and_leaves_the_student_alone(tmp_path):
    student, _, refs = run(tmp_path, 3, keep_versions=9)
    mean = weights(tmp_path, refs[0]["student"])
    assert same(mean, weights(tmp_path, refs[0]["mean"]))
    for step in (1, 2, 3):
        own = weights(tmp_path, refs[step]["student"])
        mean = {name: mean[name] * DECAY + own[name] * (1 - DECAY) for name in mean}
        found = weights(tmp_path, refs[step]["mean"])
        worst = max(float((mean[name] - one).abs().max()) for name, one in found.items())
        assert worst <= 1e-7
        assert not same(found, own)
        mean = found
    assert same({name: weights(tmp_path, refs[3]["student"])[name] for name in mean}, own)
    plain, _ = opened(tmp_path / "plain", stepping.recipe())
    for step in (1, 2, 3):
        stepping.take_step(plain, stepping.recipe(), made_batches(step), 1, step)
    assert same(stepping.weights_of(plain), stepping.weights_of(student))


@pytest.mark.parametrize("training", [{}, {"precision": "bf16"}, {"lora": {"rank": 4, "alpha": 8.0}}], ids=str)
def test_a_run_resumes_with_every_bit_of_its_means(training, tmp_path):
    straight, _, refs = run(tmp_path / "a", 3, training)
    first, epoch, _ = run(tmp_path / "b", 2, training)
    first.checkpoint(student_pb2.CheckpointRequest(run="r", epoch=epoch))
    first.close()
    compiled = told(recipe(training))
    second, epoch = opened(tmp_path / "b", compiled)
    stepping.take_step(second, compiled, made_batches(3), epoch, 3)
    again = publish(second, epoch)
    means = [one._runs["r"].trainer.averages.state() for one in (straight, second)]
    assert means[0]
    assert same(*means)
    assert same(weights(tmp_path / "a", refs[3]["mean"]), weights(tmp_path / "b", again["mean"]))


def test_copies_are_versions_of_the_steps_that_they_are_taken_at_and_outlive_newer_ones(tmp_path):
    _, _, refs = run(tmp_path, 5, keep_versions=1)
    assert [one["now"].step for one in refs] == [0, 1, 2, 3, 4, 5]
    assert [one["start"].step for one in refs] == [0] * 6
    assert [one["late"].step for one in refs] == [0, 0, 2, 2, 4, 4]
    kept = sorted(folder.name for folder in (tmp_path / "r" / "versions").iterdir())
    assert kept == ["step-0-epoch-1", "step-4-epoch-1", "step-5-epoch-1"]
    for name, ref in refs[-1].items():
        assert verify(find_version([tmp_path], ref).folder), name
    assert refs[-1]["mean"].name == f"{refs[-1]['student'].name}.mean"
    assert refs[-1]["mean"].manifest_sha256 != refs[-1]["student"].manifest_sha256


def versions_of(folder: Path) -> list[str]:
    return sorted(one.name for one in folder.glob("step-*"))


def ahead(steps: int):
    """The same recipe with rollouts that are drawn so many steps early."""
    raw = recipe().recipe.model_dump(mode="json")
    raw["schedule"] |= {"ahead_steps": steps, "deterministic": False}
    return told(compile_recipe(recipe_from(raw)))


def test_what_open_rollouts_may_name_stays_however_few_versions_are_kept(tmp_path):
    """Rollouts of step 5 that were drawn three steps early name the weights, and the copies, of step 2."""
    _, _, refs = run(tmp_path, 5, compiled=ahead(3), keep_versions=1)
    for drawn_at in (2, 3, 4, 5):
        for name, ref in refs[drawn_at].items():
            assert verify(find_version([tmp_path], ref).folder), (drawn_at, name)
    assert versions_of(tmp_path / "r" / "versions") == [f"step-{step}-epoch-1" for step in (0, 2, 3, 4, 5)]


def test_versions_of_an_epoch_that_died_stay_until_its_rollouts_are_trained(tmp_path):
    compiled, versions = ahead(1), tmp_path / "r" / "versions"
    first, _, _ = run(tmp_path, 3, compiled=compiled, keep_versions=1)
    first.close()
    second, _, _ = run(tmp_path, 2, compiled=compiled, keep_versions=1)
    assert {"step-2-epoch-1", "step-3-epoch-1"} <= {*versions_of(versions)}, "the first epoch had come to step 3"
    second.close()
    run(tmp_path, 5, compiled=compiled, keep_versions=1)
    assert versions_of(versions) == ["step-0-epoch-1", "step-0-epoch-2", "step-0-epoch-3", "step-4-epoch-3", "step-5-epoch-3"]


def test_the_status_names_the_copies_also_after_the_run_was_closed(tmp_path):
    student, _, refs = run(tmp_path, 1)
    for _ in range(2):
        status = student.status("r")
        named = {name: wire.model_ref_from_proto(ref) for name, ref in status.copies.items()}
        assert named == {name: ref for name, ref in refs[-1].items() if name != "student"}
        student.close()


def test_a_copy_of_a_step_that_was_never_published_is_refused(tmp_path):
    compiled = told(recipe())
    student, epoch = opened(tmp_path, compiled)
    stepping.take_step(student, compiled, made_batches(1), epoch, 1)
    with pytest.raises(Conflict) as refused:
        publish(student, epoch)
    assert refused.value.field in ("copies.start", "copies.late")


def test_a_checkpoint_without_the_means_is_refused(tmp_path):
    student, epoch, _ = run(tmp_path, 1)
    trainer = student._runs["r"].trainer
    with pytest.raises(Corrupt, match="means"):
        trainer.averages.restore({})
    assert epoch == 1
