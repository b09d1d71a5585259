"""An engine's process sees what its specification says, and nobody else does."""

from __future__ import annotations

import os
from typing import Any, cast

import psutil
import pytest

from preceptor.errors import EngineFailed, Unsupported
from preceptor.types import ScoreItem, Sequence, Want
from preceptor_serving.engine_host.channel import EngineSpec
from preceptor_serving.engine_host.host import EngineHost
from preceptor_serving.engine_host.kept_memory import KEPT_MEMORY
from preceptor_serving.engine_host.placement import in_this_process
from preceptor_serving.engine_host.policy import HostPolicy
from preceptor_serving.engine_host.scoring import ScoringClient

CRASH = 60
GPUS = {"CUDA_VISIBLE_DEVICES": "3,1"}


def item(token: int) -> ScoreItem:
    return ScoreItem(Sequence.of([1], [token]), Want(sampled=True))


async def test_the_environment_of_a_specification_is_its_processs_alone_and_survives_a_restart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("MALLOC_MMAP_THRESHOLD_", raising=False)
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "1048576")
    quick = HostPolicy(heartbeat_s=0.1, backoff_first_s=0.05, restart_wait_s=30.0, stop_grace_s=0.5)
    host = EngineHost(EngineSpec("a", "fake", {"crash_token": CRASH}, GPUS), quick)
    await host.start()
    try:
        client = ScoringClient(host)
        with pytest.raises(EngineFailed):
            await client.score([item(CRASH)], timeout_s=30)
        await client.score([item(2)], timeout_s=30)
        seen = psutil.Process(host.pid).environ()
        assert seen["CUDA_VISIBLE_DEVICES"] == "3,1"
        assert seen["PATH"] == os.environ["PATH"]
        assert seen.items() >= {**KEPT_MEMORY, "MALLOC_TRIM_THRESHOLD_": "1048576"}.items(), "what the operator sets stays"
        assert os.environ.get("CUDA_VISIBLE_DEVICES") != "3,1"
    finally:
        await host.stop()


def test_an_engine_in_this_process_cannot_have_an_environment_of_its_own() -> None:
    with pytest.raises(Unsupported) as refused:
        in_this_process(EngineSpec("a", "fake", {}, GPUS), cast(Any, None))
    assert refused.value.field == "teachers.a.gpus"
