"""What the vllm generation engine does beyond the contract: the hf engine's tokens, adapters, short memory, refusals."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from examples.tiny.decode import MODEL_DIRS
from preceptor.errors import ConfigurationError, InvalidArgument, Unsupported, VersionGone, WrongPair
from preceptor.types import AdapterRef, ModelRef
from preceptor_rollout.engine import create as create_hf
from preceptor_serving.engines.protocol import Engine
from tests.contract.generation_subjects import CHUNK_TOKENS, bundled, changed
from tests.contract.generation_suite import asked, draw, ids_of, in_turns, stream
from tests.support.adapters import merged, save_adapter
from tests.unit.preceptor_rollout.drawing import draw as draw_hf
from tests.unit.preceptor_rollout.drawing import tiny_prompts

pytest.importorskip("vllm", reason="vLLM is in an environment of its own: make test-vllm")

from preceptor_rollout.vllm import create
from preceptor_rollout.vllm.engine import VllmGeneration
from preceptor_rollout.vllm.options import VllmGenerationOptions
from preceptor_rollout.vllm.weights import Held, Weights
from preceptor_serving.vllm.adapters import Adapters

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(300)]
BLOCK, CACHE_TOKENS = 32, 512
BYTES_PER_TOKEN = 3 * 3 * 2 * 32 * 4  # layers, heads, keys and values, head size, f32
STUDENT = MODEL_DIRS["student"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def subject(root: Path) -> Generator[Any]:
    """The bundled student with room for one of the longest sequences, and for two adapters."""
    room = {
        "block_size": BLOCK,
        "kv_cache_memory_bytes": CACHE_TOKENS * BYTES_PER_TOKEN,
        "max_model_len": CACHE_TOKENS - 2 * BLOCK,
    }

    def small(options: Any) -> Engine:
        return create({**options, **room, "enable_lora": True, "max_lora_rank": 8})

    with bundled(small, root) as subject:
        yield subject


def of_adapter(base: ModelRef, step: int, run: str = "r") -> ModelRef:
    return ModelRef("tiny", run, 1, step, base.manifest_sha256, AdapterRef(run, bytes([step]) * 32))


def test_it_draws_the_hf_engines_tokens(subject: Any):
    hf = create_hf({"name": "tiny", "folder": STUDENT, "log_chunk_tokens": CHUNK_TOKENS})
    message = asked(tiny_prompts(8), 4, {"max_new_tokens": 40}, student_topk=4)
    ours, theirs = draw(subject, message), draw_hf(hf, message)
    assert len(ours) == 32
    equal = [ours[name].sequence.ids.tolist() == one.sequence.ids.tolist() for name, one in theirs.items()]
    assert sum(equal) >= 31  # a number may fall between two tokens where the engines round otherwise


def test_memory_that_runs_short_delays_and_changes_nothing(subject: Any):
    """Twelve sequences of up to 100 tokens do not fit into a cache of 512: some are preempted and computed again."""
    message = asked(tiny_prompts(3), 4, {"max_new_tokens": 80, "ignore_eos": True}, student_topk=2)
    together = draw(subject, message)
    alone: dict[Any, Any] = {}
    for prompt, ids in tiny_prompts(3).items():
        alone |= draw(subject, asked({prompt: ids}, 4, {"max_new_tokens": 80, "ignore_eos": True}, student_topk=2))
    assert ids_of(together) == ids_of(alone)
    for rollout in together.values():
        assert np.asarray(rollout.behaviour.logprob_policy).shape == (rollout.sequence.row_count,) == (80,)
        assert rollout.student_topk is not None
        assert rollout.student_topk.ids.size == 160


def test_adapters_draw_beside_each_other_and_beside_their_base(subject: Any, root: Path):
    folders = {step: save_adapter(STUDENT, root / f"adapter-{step}", step) for step in (1, 2, 3)}
    refs = {step: of_adapter(subject.base, step) for step in folders}
    for step, folder in folders.items():
        subject.engine.load_version(refs[step], str(folder))
    message = asked(tiny_prompts(3), 2, {"max_new_tokens": 12, "ignore_eos": True})
    streams = [stream(subject, message, version) for version in (*refs.values(), subject.base)]
    in_turns(*streams)
    drawn = [ids_of(one.rollouts()) for one in streams]
    assert len({str(ids) for ids in drawn}) == 4
    for step, folder in folders.items():
        hf = create_hf({"name": "tiny", "folder": STUDENT})
        whole = replace(refs[step], adapter=None)
        hf.load_version(whole, str(merged(STUDENT, folder, root / f"merged-{step}")))
        assert ids_of(draw_hf(hf, message, whole)) == drawn[step - 1]
    assert {one.model for one in streams[0].rollouts().values()} == {refs[1]}
    for ref in refs.values():
        subject.engine.drop_version(ref)
    with pytest.raises(VersionGone):
        draw(subject, message, refs[1])


def test_an_adapter_outlives_a_swap_of_its_base(subject: Any, root: Path):
    """Other weights are read in between, and the base again for the adapter."""
    ref, other = of_adapter(subject.base, 4, "again"), ModelRef("tiny", "other", 1, 1, b"\7" * 32)
    subject.engine.load_version(ref, str(save_adapter(STUDENT, root / "again", 4)))
    message = asked(tiny_prompts(2), 2)
    before = ids_of(draw(subject, message, ref))
    subject.engine.load_version(other, subject.next_folder)
    between = ids_of(draw(subject, message, other))
    assert ids_of(draw(subject, message, ref)) == before != between
    subject.engine.drop_version(ref)
    subject.engine.drop_version(other)


def test_an_adapter_that_does_not_fit_is_refused(subject: Any, root: Path):
    foreign = ModelRef("tiny", "r", 1, 1, b"\x09" * 32, AdapterRef("r", b"\1" * 32))
    with pytest.raises(WrongPair) as unknown:
        subject.engine.load_version(foreign, str(root))
    assert unknown.value.field == "version.manifest_sha256"
    with pytest.raises(InvalidArgument, match="rank"):
        subject.engine.load_version(of_adapter(subject.base, 5), str(save_adapter(STUDENT, root / "wide", 5, rank=16)))
    draw(subject, asked(tiny_prompts(1), 1), subject.base)


def test_an_engine_without_adapters_says_how_to_have_them():
    base = Held(ModelRef("tiny", manifest_sha256=b"\1" * 32), STUDENT)
    core: Any = SimpleNamespace(config=SimpleNamespace(lora_config=None))
    vocabulary: Any = None
    weights = Weights(core, base, vocabulary, Adapters(core))
    with pytest.raises(Unsupported, match="without adapters") as failed:
        weights.add(of_adapter(base.ref, 1), STUDENT)
    assert "enable_lora" in failed.value.hint


def test_weights_of_another_model_are_refused_by_what_differs(subject: Any, root: Path):
    with pytest.raises(WrongPair) as other:
        subject.engine.load_version(ModelRef("tiny", "r", 1, 1, b"\4" * 32), str(MODEL_DIRS["teacher"]))
    assert other.value.field == "config.json: architectures"
    lacking = Path(changed(STUDENT, root / "lacking", lambda tensor: None))
    tensors = load_file(lacking / "model.safetensors")
    del tensors["model.norm.weight"]
    save_file(tensors, lacking / "model.safetensors")
    with pytest.raises(WrongPair) as short:
        subject.engine.load_version(ModelRef("tiny", "r", 1, 1, b"\5" * 32), str(lacking))
    assert short.value.field == "model.norm.weight"


def test_a_failure_inside_vllm_ends_the_process(subject: Any, monkeypatch: pytest.MonkeyPatch):
    engine = subject.engine
    assert isinstance(engine, VllmGeneration)

    def fail() -> Any:
        raise RuntimeError("a kernel went wrong")

    monkeypatch.setattr(engine._core._core, "step_fn", fail)
    with pytest.raises(SystemExit):
        draw(subject, asked(tiny_prompts(1), 1))


@pytest.mark.parametrize("option", ["speculative_config", "async_scheduling", "logprobs_mode", "load_format"])
def test_options_that_would_break_the_engine_are_refused(option: str):
    with pytest.raises(ConfigurationError, match=option):
        VllmGenerationOptions.from_mapping({"name": "tiny", "folder": STUDENT, option: "x"})


def test_there_is_room_for_as_many_adapters_as_versions():
    options = {"name": "tiny", "folder": STUDENT, "max_versions": 3, "enable_lora": True}
    args = VllmGenerationOptions.from_mapping(options).with_adapters().engine_args
    assert (args["max_loras"], args["max_cpu_loras"]) == (3, 3)
