"""A small language model that a discriminator starts from, and what every test builds of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from preceptor_teacher.discriminator.learning import Trainer
from preceptor_teacher.discriminator.scorer import Scorer
from tests.support.models import random_llama, save

RATE = 1e-2


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(random_llama(7, initializer_range=0.1), tmp_path_factory.mktemp("base"))


@pytest.fixture
def new_trainer(base: Path) -> Callable[[], Trainer]:
    return lambda: Trainer(Scorer(base, "cpu", None), RATE, texts_at_once=3)
