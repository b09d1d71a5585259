"""Heads of teachers: that of a digest, in the type in which the teacher has it, from its own tensors, within a bound."""

# pyright: reportArgumentType=false

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from preceptor.errors import ConfigurationError, TooLarge, Unsupported
from preceptor_serving.digests import tokenizer_size
from preceptor_serving.models.load import load_causal_lm, load_tokenizer
from preceptor_student import teacher_heads
from preceptor_student.teacher_heads import TeacherHeads, head_bytes, head_in
from preceptor_teacher.engines.hf.load import head_of
from tests.unit.preceptor_student.stepping import TINY

TEACHER, STUDENT = TINY / "teacher", TINY / "student"
AMPLE = 1 << 30


def served(folder: Path, dtype: str):
    """The head as the hf engine of a teacher service has it."""
    return head_of(load_causal_lm(folder, dtype, "cpu"), tokenizer_size(load_tokenizer(folder)))


@pytest.fixture
def untied(tmp_path: Path) -> Path:
    """The teacher with a head of its own beside the embeddings."""
    folder = tmp_path / "untied"
    shutil.copytree(TEACHER, folder)
    config = json.loads((folder / "config.json").read_text()) | {"tie_word_embeddings": False}
    (folder / "config.json").write_text(json.dumps(config))
    weights = load_file(folder / "model.safetensors")
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"] * 0.5
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.mark.parametrize("dtype", ["f32", "bf16", "f16"])
def test_the_head_is_the_one_that_the_teacher_serves_whatever_its_type(dtype: str) -> None:
    theirs = served(TEACHER, dtype)
    ours = TeacherHeads([STUDENT, TEACHER], AMPLE).get(theirs.sha256())
    states = torch.randn(5, ours.weight_vh.shape[1])
    assert torch.equal(ours.logits(states), theirs.logits(states))
    assert (ours.tokenizer_size, ours.scale, ours.soft_cap) == (theirs.tokenizer_size, theirs.scale, theirs.soft_cap)


def test_a_head_beside_the_embeddings_is_told_from_them(untied: Path) -> None:
    theirs = served(untied, "f32")
    assert head_in(untied, torch.float32).sha256() == theirs.sha256() != served(TEACHER, "f32").sha256()


def test_a_head_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[Path] = []
    monkeypatch.setattr(teacher_heads, "head_in", lambda folder, *about: reads.append(folder) or head_in(folder, *about))
    heads, name = TeacherHeads([TEACHER], AMPLE), served(TEACHER, "f32").sha256()
    assert heads.get(name) is heads.get(name)
    assert reads == [TEACHER]


def test_a_digest_that_no_folder_has_is_refused_by_name() -> None:
    with pytest.raises(Unsupported, match="no such head") as refused:
        TeacherHeads([TEACHER], AMPLE).get(bytes(32))
    assert refused.value.field == "head_sha256"
    assert "teacher_heads" in (refused.value.hint or "")
    with pytest.raises(Unsupported, match="no such head"):
        TeacherHeads([], AMPLE).get(bytes(32))


def test_heads_make_room_for_each_other_and_one_that_never_fits_is_refused() -> None:
    names = [served(folder, "f32").sha256() for folder in (TEACHER, STUDENT)]
    most = max(head_bytes(folder, torch.float32) for folder in (TEACHER, STUDENT))
    heads = TeacherHeads([TEACHER, STUDENT], most)
    first = heads.get(names[0])
    heads.get(names[1])
    assert heads.get(names[0]) is not first
    assert heads.get(names[0]).sha256() == names[0]
    with pytest.raises(TooLarge) as refused:
        TeacherHeads([TEACHER], 1000).get(names[0])
    assert str(head_bytes(TEACHER, torch.float32)) in str(refused.value.value)


def test_weights_under_names_that_the_model_does_not_know_are_refused(untied: Path) -> None:
    weights = load_file(untied / "model.safetensors")
    weights["other.head"] = weights.pop("lm_head.weight")
    save_file(weights, untied / "model.safetensors", {"format": "pt"})
    with pytest.raises(ConfigurationError, match="weights of the head are not in the folder"):
        head_in(untied, torch.float32)
