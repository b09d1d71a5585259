from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from preceptor_teacher.engines.hf import create
from preceptor_teacher.engines.hf.engine import HfEngine
from tests.support.models import random_llama, random_sliding, save


@pytest.fixture(scope="session")
def llama_folder(tmp_path_factory) -> Path:
    return save(random_llama(1), tmp_path_factory.mktemp("models") / "llama")


@pytest.fixture(scope="session")
def other_folder(tmp_path_factory) -> Path:
    """The same shape, tied, with other weights."""
    return save(random_llama(2, tie_word_embeddings=True), tmp_path_factory.mktemp("models") / "other")


@pytest.fixture(scope="session")
def sliding_folder(tmp_path_factory) -> Path:
    return save(random_sliding(3), tmp_path_factory.mktemp("models") / "sliding")


@pytest.fixture
def engine(llama_folder) -> HfEngine:
    return create({"name": "llama", "folder": llama_folder})


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
