"""The vllm generation engine keeps the contract of generation engines, on vLLM's CPU build."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any

import pytest

from preceptor_serving.engines.protocol import Engine
from tests.contract.generation_subjects import bundled, padded
from tests.contract.generation_suite import GenerationContract, GenerationSubject

pytest.importorskip("vllm", reason="vLLM is in an environment of its own: make test-vllm")
pytestmark = [pytest.mark.vllm, pytest.mark.timeout(300)]
SMALL = {"kv_cache_memory_bytes": 64 << 20, "block_size": 32}


def create(options: Mapping[str, Any]) -> Engine:
    from preceptor_rollout.vllm import create

    return create({**options, **SMALL})


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
