"""The vllm engine keeps the engine contract, on vLLM's CPU build: the bundled teacher and a random model, each in its process."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from preceptor.types import ModelRef
from preceptor_serving.engine_host.channel import EngineSpec
from preceptor_serving.engine_host.host import EngineHost
from tests.contract.engine_subjects import Face, Subject, behind
from tests.contract.engine_suite import EngineContract
from tests.reference.score_oracle import Logits
from tests.support.models import BUNDLED_TEACHER, random_llama, save
from tests.support.weights import other_weights

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(300)]
NOISE_NATS, ERROR_NATS = 1e-4, 1e-4
SMALL = {"dtype": "f32", "kv_cache_memory_bytes": 64 << 20}


def logits_of(folder: Path) -> Logits:
    """The whole model in float64."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64, local_files_only=True)

    def logits(ids) -> np.ndarray:
        with torch.inference_mode():
            return model(torch.tensor([list(map(int, ids))])).logits[0, -1].numpy()

    return logits


def subject_of(face: Face, folder: Path, other: Path) -> Subject:
    version = ModelRef(face.describe()[0].model.name, run="r", epoch=1, step=5, manifest_sha256=b"\x05" * 32)
    return Subject(face, logits_of(folder), NOISE_NATS, ERROR_NATS, (version, str(other_weights(folder, other, 5))))


class TestBundledTeacherInProcess(EngineContract):
    @pytest.fixture(scope="class")
    @classmethod
    def subject(cls, tmp_path_factory: pytest.TempPathFactory) -> Generator[Subject]:
        spec = EngineSpec("tiny", "vllm", {"name": "tiny", "folder": str(BUNDLED_TEACHER), **SMALL})
        with behind(lambda: EngineHost(spec)) as face:
            yield subject_of(face, BUNDLED_TEACHER, tmp_path_factory.mktemp("models") / "other")


@contextmanager
def over_random_model(root: Path, **options: object) -> Generator[Subject]:
    """Heads of 32, the least that vLLM's CPU attention takes, fewer key-value heads than heads, padding rows in the head."""
    folder = save(random_llama(1, hidden_size=128, tie_word_embeddings=True), root / "random")
    unbound = {"VLLM_CPU_OMP_THREADS_BIND": "nobind"}  # several workers may share a core
    spec = EngineSpec("random", "vllm", {"name": "random", "folder": str(folder), **SMALL, **options}, unbound)
    with behind(lambda: EngineHost(spec)) as face:
        yield subject_of(face, folder, folder.with_name("other"))


class TestRandomModelInProcess(EngineContract):
    @pytest.fixture(scope="class")
    @classmethod
    def subject(cls, tmp_path_factory: pytest.TempPathFactory) -> Generator[Subject]:
        with over_random_model(tmp_path_factory.mktemp("models")) as subject:
            yield subject


class TestTwoTensorParallelWorkers(EngineContract):
    """Heads, projections and rows of the vocabulary's head are split over two processes."""

    @pytest.fixture(scope="class")
    @classmethod
    def subject(cls, tmp_path_factory: pytest.TempPathFactory) -> Generator[Subject]:
        with over_random_model(tmp_path_factory.mktemp("models"), tensor_parallel_size=2) as subject:
            yield subject
