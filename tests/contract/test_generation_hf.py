"""The hf generation engine keeps the contract of generation engines."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from preceptor_rollout.engine import create
from tests.contract.generation_subjects import bundled, padded
from tests.contract.generation_suite import GenerationContract, GenerationSubject


class TestBundledStudent(GenerationContract):
    @pytest.fixture(scope="class")
    @classmethod
    def subject(cls, tmp_path_factory: pytest.TempPathFactory) -> Generator[GenerationSubject]:
        with bundled(create, tmp_path_factory.mktemp("models")) as subject:
            yield subject


class TestPaddedHead(GenerationContract):
    @pytest.fixture(scope="class")
    @classmethod
    def subject(cls, tmp_path_factory: pytest.TempPathFactory) -> Generator[GenerationSubject]:
        with padded(create, tmp_path_factory.mktemp("models")) as subject:
            yield subject
