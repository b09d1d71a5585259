"""Versions of whole weights on the vllm teacher: they take turns, and nothing of one is left when another has its turn."""

from __future__ import annotations

import shutil
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from preceptor.errors import Conflict, Corrupt, Exhausted, VersionGone, WrongPair
from preceptor.types import AdapterRef, ModelRef, Scored, Sequence, Want, Window
from preceptor_serving.engines.protocol import ScoreItem
from preceptor_teacher.engines.hf import create as create_hf
from preceptor_teacher.growing import Growth
from tests.support.adapters import merged, save_adapter
from tests.support.models import BUNDLED_TEACHER, random_llama, save
from tests.support.weights import other_weights

pytest.importorskip("vllm", reason="vLLM is in an environment of its own: make test-vllm")

from preceptor_teacher.engines.vllm import create
from preceptor_teacher.engines.vllm.engine import VllmEngine

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(300)]
N1 = 1e-4
PROMPT = list(range(3, 43))  # longer than a block, so that it is cached
IDS = [*PROMPT, 17, 4, 90, 33, 120, 8, 55, 61]
ITEM = ScoreItem(Sequence.of(PROMPT, IDS[40:]), Want(sampled=True))
ROOM = 3


@pytest.fixture(scope="module")
def engine() -> Generator[VllmEngine]:
    room = {"block_size": 32, "kv_cache_memory_bytes": 16 << 20, "max_versions": ROOM, "enable_lora": True, "max_loras": 1}
    made = create({"name": "tiny", "folder": BUNDLED_TEACHER, "dtype": "f32", **room})
    assert isinstance(made, VllmEngine)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _only_the_operators(engine: VllmEngine) -> Generator[None]:
    yield
    for info in engine.describe()[:-1]:
        engine.drop_version(info.model)


def version(step: int) -> ModelRef:
    return ModelRef("tiny", run="r", epoch=1, step=step, manifest_sha256=bytes([step]) * 32)


def load(engine: VllmEngine, folder: Path, step: int) -> tuple[ModelRef, Path]:
    ref, other = version(step), other_weights(BUNDLED_TEACHER, folder / f"step-{step}", step)
    engine.load_version(ref, str(other))
    return ref, other


def sampled(engine: VllmEngine, ref: ModelRef, item: ScoreItem = ITEM, growth: Growth | None = None) -> np.ndarray:
    [outcome] = engine.score_growing([item], [growth], ref)
    assert isinstance(outcome, Scored), outcome
    assert outcome.rows.sampled is not None
    assert outcome.receipt.model == ref
    return outcome.rows.sampled


def exact(folder: Path) -> np.ndarray:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64, local_files_only=True)
    with torch.inference_mode():
        rows = model(torch.tensor([IDS])).logits[0].log_softmax(-1)
    return rows[torch.arange(len(PROMPT) - 1, len(IDS) - 1), torch.tensor(IDS[len(PROMPT) :])].numpy()


def test_each_version_answers_as_its_own_weights_whoever_had_the_turn_before(engine: VllmEngine, tmp_path: Path):
    base, over = engine.describe()[-1].model, save_adapter(BUNDLED_TEACHER, tmp_path / "adapter", 4)
    adapter = replace(base, run="r", step=4, adapter=AdapterRef("r", b"\x04" * 32))
    engine.load_version(adapter, str(over))
    one, other = load(engine, tmp_path, 1), load(engine, tmp_path, 2)
    assert [info.model for info in engine.describe()] == [other[0], one[0], adapter, base]
    folders = dict([one, other, (base, BUNDLED_TEACHER), (adapter, merged(BUNDLED_TEACHER, over, tmp_path / "merged"))])
    expected = {ref: exact(folder) for ref, folder in folders.items()}
    for ref in (one[0], base, other[0], adapter, one[0], other[0], base, adapter, base):
        np.testing.assert_allclose(sampled(engine, ref), expected[ref], rtol=0, atol=N1)
    assert np.abs(expected[one[0]] - expected[base]).max() > 100 * N1


def test_a_task_that_grows_under_one_version_goes_on_after_the_turn_of_another(engine: VllmEngine, tmp_path: Path):
    """Neither open requests nor cached prefixes of other weights serve it, although scope, task and ids are equal."""
    ref, folder = load(engine, tmp_path, 1)
    expected = {engine.describe()[-1].model: exact(BUNDLED_TEACHER), ref: exact(folder)}
    want = Want(sampled=True)
    start = ScoreItem(Sequence.of(PROMPT, IDS[40:44]), replace(want, window=Window(0, 4)))
    rest = ScoreItem(Sequence.of(PROMPT, IDS[40:]), replace(want, window=Window(4, 8)))
    grown = {one: [sampled(engine, one, start, Growth("scope", "task", open=True))] for one in expected}
    for one, parts in grown.items():
        parts.append(sampled(engine, one, rest, Growth("scope", "task", open=False)))
        np.testing.assert_allclose(np.concatenate(parts), expected[one], rtol=0, atol=N1)


def test_the_digest_of_a_versions_head_is_that_of_the_hf_engine(engine: VllmEngine, tmp_path: Path):
    _, folder = load(engine, tmp_path, 1)
    newest, base = engine.describe()
    assert newest.head_sha256 == create_hf({"name": "tiny", "folder": folder}).describe()[0].head_sha256 != base.head_sha256


def test_one_more_than_there_is_room_for_is_refused_until_another_was_dropped(engine: VllmEngine, tmp_path: Path):
    first, _ = load(engine, tmp_path, 1)
    load(engine, tmp_path, 2)
    with pytest.raises(Exhausted) as full:
        load(engine, tmp_path, 3)
    assert (full.value.field, full.value.value, full.value.limit) == ("version", "3", str(ROOM))
    engine.drop_version(first)
    with pytest.raises(VersionGone):
        engine.score([ITEM], first)
    engine.load_version(version(3), str(tmp_path / "step-3"))
    with pytest.raises(Conflict):
        engine.drop_version(engine.describe()[-1].model)


def test_files_that_changed_since_they_were_checked_are_never_read(engine: VllmEngine, tmp_path: Path):
    ref, folder = load(engine, tmp_path, 1)
    base, before = engine.describe()[-1].model, exact(BUNDLED_TEACHER)
    sampled(engine, base)
    [path] = folder.glob("*.safetensors")
    save_file(load_file(path), path, metadata={"format": "pt"})
    with pytest.raises(Corrupt) as changed:
        engine.score([ITEM], ref)
    assert changed.value.value == path.name
    shutil.rmtree(folder)
    with pytest.raises(VersionGone):
        engine.score([ITEM], ref)
    np.testing.assert_allclose(sampled(engine, base), before, rtol=0, atol=N1)


def test_weights_of_another_model_or_another_tokenizer_are_refused(engine: VllmEngine, tmp_path: Path):
    with pytest.raises(WrongPair) as other:
        engine.load_version(version(1), str(save(random_llama(1), tmp_path / "other")))
    assert str(other.value.field).startswith("config.json")
    folder = other_weights(BUNDLED_TEACHER, tmp_path / "retold", 1)
    text = (folder / "tokenizer.json").read_text(encoding="utf-8")
    (folder / "tokenizer.json").write_text(text.replace('"a":', '"§":', 1), encoding="utf-8")
    with pytest.raises(WrongPair) as retold:
        engine.load_version(version(1), str(folder))
    assert retold.value.field == "tokenizer_sha256"
    assert len(engine.describe()) == 1


def test_weights_that_diverged_are_refused_and_leave_nothing_behind(engine: VllmEngine, tmp_path: Path):
    """What is not a number would stay in unused parts of the cache, and attention multiplies those by zero."""
    with pytest.raises(Corrupt, match="not numbers"):
        engine.load_version(version(1), str(other_weights(BUNDLED_TEACHER, tmp_path / "nan", 1, scale=float("nan"))))
    assert len(engine.describe()) == 1
    np.testing.assert_allclose(sampled(engine, engine.describe()[0].model), exact(BUNDLED_TEACHER), rtol=0, atol=N1)
