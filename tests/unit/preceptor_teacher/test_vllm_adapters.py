"""LoRA adapters on the vllm teacher: versions beside their base, each scored as the model with the adapter in its weights."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from preceptor.errors import Conflict, Exhausted, InvalidArgument, Unsupported, VersionGone, WrongPair
from preceptor.types import AdapterRef, ModelRef, Scored, Sequence, Want, Window
from preceptor_serving.engines.protocol import ScoreItem
from preceptor_teacher.growing import Growth
from tests.support.adapters import merged, save_adapter
from tests.support.models import BUNDLED_TEACHER

pytest.importorskip("vllm", reason="vLLM is in an environment of its own: make test-vllm")

from preceptor_teacher.engines.vllm import create
from preceptor_teacher.engines.vllm.engine import VllmEngine

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(300)]
N1 = 1e-4
IDS = [1, 9, 30, 200, 17, 4, 90, 33, 120, 8, 55, 61]
ITEM = ScoreItem(Sequence.of(IDS[:4], IDS[4:]), Want(sampled=True, topk=4))


@pytest.fixture(scope="module")
def engine() -> Generator[VllmEngine]:
    room = {"block_size": 32, "kv_cache_memory_bytes": 16 << 20, "enable_lora": True, "max_loras": 2, "max_lora_rank": 8}
    made = create({"name": "tiny", "folder": BUNDLED_TEACHER, "dtype": "f32", **room})
    assert isinstance(made, VllmEngine)
    yield made
    made.close()


def ref_of(engine: VllmEngine, step: int) -> ModelRef:
    base = engine.describe()[-1].model
    return replace(base, run="r", step=step, adapter=AdapterRef("r", bytes([step]) * 32))


def sampled(engine: VllmEngine, version: ModelRef | None) -> np.ndarray:
    [outcome] = engine.score([ITEM], version)
    assert isinstance(outcome, Scored)
    assert outcome.rows.sampled is not None
    assert outcome.receipt.model == (version or engine.describe()[0].model)
    return outcome.rows.sampled


def exact(folder: Path) -> np.ndarray:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64, local_files_only=True)
    with torch.inference_mode():
        rows = model(torch.tensor([IDS])).logits[0].log_softmax(-1)
    return rows[torch.arange(3, len(IDS) - 1), torch.tensor(IDS[4:])].numpy()


def test_versions_are_scored_beside_each_other_as_their_merged_weights(engine: VllmEngine, tmp_path: Path):
    base = engine.describe()[-1].model
    refs = {step: ref_of(engine, step) for step in (1, 2)}
    for step, ref in refs.items():
        engine.load_version(ref, str(save_adapter(BUNDLED_TEACHER, tmp_path / f"adapter-{step}", step)))
    assert [info.model for info in engine.describe()] == [refs[2], refs[1], base]
    for step, ref in refs.items():
        whole = merged(BUNDLED_TEACHER, tmp_path / f"adapter-{step}", tmp_path / f"merged-{step}")
        np.testing.assert_allclose(sampled(engine, ref), exact(whole), rtol=0, atol=N1)
    np.testing.assert_allclose(sampled(engine, base), exact(BUNDLED_TEACHER), rtol=0, atol=N1)
    assert np.array_equal(sampled(engine, None), sampled(engine, refs[2]))
    with pytest.raises(Exhausted) as full:
        engine.load_version(ref_of(engine, 3), str(tmp_path / "adapter-1"))
    assert "max_cpu_loras" in full.value.hint
    for ref in refs.values():
        engine.drop_version(ref)
    with pytest.raises(VersionGone):
        engine.score([ITEM], refs[1])
    with pytest.raises(Conflict):
        engine.drop_version(base)


def test_a_growing_task_under_one_version_is_no_prefix_of_it_under_another(engine: VllmEngine, tmp_path: Path):
    """Keys and values of the base must not serve the adapter, although scope, task and ids are equal."""
    ref, base = ref_of(engine, 4), engine.describe()[-1].model
    engine.load_version(ref, str(save_adapter(BUNDLED_TEACHER, tmp_path / "adapter", 4)))
    start = ScoreItem(Sequence.of(IDS[:4], IDS[4:8]), Want(sampled=True, window=Window(0, 4)))
    rest = ScoreItem(Sequence.of(IDS[:4], IDS[4:]), Want(sampled=True, window=Window(4, 8)))
    for version in (base, ref):
        grown = []
        for item, is_open in ((start, True), (rest, False)):
            [outcome] = engine.score_growing([item], [Growth("scope", "task", open=is_open)], version)
            assert isinstance(outcome, Scored)
            assert outcome.rows.sampled is not None
            grown.append(outcome.rows.sampled)
        np.testing.assert_allclose(np.concatenate(grown), sampled(engine, version), rtol=0, atol=N1)
    engine.drop_version(ref)


def test_what_does_not_fit_is_refused_by_name(engine: VllmEngine, tmp_path: Path):
    foreign = replace(ref_of(engine, 5), manifest_sha256=b"\x05" * 32)
    with pytest.raises(WrongPair):
        engine.load_version(foreign, str(tmp_path))
    with pytest.raises(InvalidArgument, match="rank"):
        engine.load_version(ref_of(engine, 5), str(save_adapter(BUNDLED_TEACHER, tmp_path / "wide", 5, rank=16)))
    with pytest.raises(Unsupported, match="head"):
        engine.load_version(ref_of(engine, 5), str(save_adapter(BUNDLED_TEACHER, tmp_path / "head", 5, head=True)))
    assert len(engine.describe()) == 1
