"""FakeEngine keeps the engine contract: called directly, in a thread, and in a process of its own."""

from __future__ import annotations

from collections.abc import Generator

import numpy as np
import pytest

from preceptor.types import ModelRef
from preceptor_serving.engine_host.channel import EngineSpec
from preceptor_serving.engine_host.host import EngineHost
from preceptor_serving.engine_host.inline import InlineEngine
from preceptor_serving.engines.fake import FakeEngine, FakeOptions
from tests.contract.engine_subjects import Face, Subject, behind
from tests.contract.engine_suite import EngineContract

PADDED = {"seed": 3, "tokenizer_size": 61, "head_rows": 64, "max_sequence_tokens": 64}
UNPADDED = {"seed": 4, "tokenizer_size": 32, "head_rows": 32, "max_sequence_tokens": 64}
ERROR_NATS = 2e-6  # f32 against float64


def subject_of(face: Face, options: dict[str, int]) -> Subject:
    model = FakeEngine(FakeOptions(**options)).model()
    first = face.describe()[0].model
    version = ModelRef(first.name, run="r", epoch=1, step=5, manifest_sha256=b"\x05" * 32)
    return Subject(
        face=face,
        logits=lambda ids: model.logits_after(np.asarray(ids)).astype(np.float64),
        noise_nats=0.0,
        error_nats=ERROR_NATS,
        new_version=(version, "unused"),
    )


class TestDirect(EngineContract):
    @pytest.fixture(scope="class", params=[PADDED, UNPADDED], ids=["padded", "unpadded"])
    @classmethod
    def subject(cls, request: pytest.FixtureRequest) -> Subject:
        return subject_of(FakeEngine(FakeOptions(**request.param)), request.param)


class TestInThread(EngineContract):
    @pytest.fixture(scope="class")
    @classmethod
    def subject(cls) -> Generator[Subject]:
        with behind(lambda: InlineEngine(lambda: FakeEngine(FakeOptions(**PADDED)))) as face:
            yield subject_of(face, PADDED)


class TestInProcess(EngineContract):
    @pytest.fixture(scope="class")
    @classmethod
    def subject(cls) -> Generator[Subject]:
        with behind(lambda: EngineHost(EngineSpec("fake", "fake", PADDED))) as face:
            yield subject_of(face, PADDED)
