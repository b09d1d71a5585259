"""The hf engine keeps the engine contract: a random model called directly, the bundled teacher in a process of its own."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from preceptor.types import ModelRef
from preceptor_serving.engine_host.channel import EngineSpec
from preceptor_serving.engine_host.host import EngineHost
from preceptor_teacher.engines.hf import create
from tests.contract.engine_subjects import Face, Subject, behind
from tests.contract.engine_suite import EngineContract
from tests.reference.score_oracle import Logits
from tests.support.models import BUNDLED_TEACHER, random_llama, save

NOISE_NATS, ERROR_NATS = 1e-4, 1e-4


def logits_of(folder: Path) -> Logits:
    """The whole model in float64."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64, local_files_only=True)

    def logits(ids) -> np.ndarray:
        with torch.inference_mode():
            return model(torch.tensor([list(map(int, ids))])).logits[0, -1].numpy()

    return logits


def subject_of(face: Face, folder: Path, other: Path) -> Subject:
    name = face.describe()[0].model.name
    version = ModelRef(name, run="r", epoch=1, step=5, manifest_sha256=b"\x05" * 32)
    return Subject(face, logits_of(folder), NOISE_NATS, ERROR_NATS, (version, str(other)))


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("models")
    return save(random_llama(1), root / "one"), save(random_llama(2, tie_word_embeddings=True), root / "other")


class TestRandomModel(EngineContract):
    @pytest.fixture(scope="class")
    @classmethod
    def subject(cls, folders: tuple[Path, Path]) -> Subject:
        return subject_of(create({"name": "llama", "folder": folders[0]}), *folders)


@pytest.mark.skipif(not BUNDLED_TEACHER.exists(), reason="the bundled pair is not there")
class TestBundledTeacherInProcess(EngineContract):
    @pytest.fixture(scope="class")
    @classmethod
    def subject(cls, folders: tuple[Path, Path]) -> Generator[Subject]:
        with behind(lambda: EngineHost(EngineSpec("tiny", "hf", {"name": "tiny", "folder": str(BUNDLED_TEACHER)}))) as face:
            yield subject_of(face, BUNDLED_TEACHER, folders[1])
