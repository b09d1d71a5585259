"""`engine: echo` before vLLM's own OpenAI server, CPU build: what it says of given ids is what the same weights say here."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks.on_vllm.stock import NAME, stock_server
from preceptor.client import ScoreItem
from preceptor.errors import Unsupported
from preceptor.types import Want, Window
from tests.support.models import BUNDLED_TEACHER
from tests.unit.preceptor_teacher.echo.test_servers import NEAR, SEQUENCES, assert_same, far, service

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.timeout(420),
    pytest.mark.skipif(" " in sys.prefix, reason="vLLM's own server cannot run from a path with a space"),
]


async def test_a_real_vllm_server_is_a_teacher_as_if_its_weights_were_here(tmp_path: Path) -> None:
    async with (
        stock_server(BUNDLED_TEACHER, tmp_path / "vllm.log", 64 << 20, threads=1) as stock,
        service(NEAR) as (_, direct),
    ):
        for dialect, most in (("vllm", 20), ("openai", 0)):
            async with service(far(stock.base_url, dialect=dialect, model=NAME)) as (_, client):
                [info] = await client.describe()
                assert (info.capabilities.sampled, info.capabilities.max_topk) == (True, most)
                for want in (
                    Want(sampled=True, topk=most),
                    Want(sampled=True, window=Window(1, 2)),
                    *([Want(topk=3)] if most else []),
                ):
                    await assert_same(client, direct, want)
                [refused] = await client.score("far", [ScoreItem(SEQUENCES[0], Want(topk=most + 1))])
                assert isinstance(refused, Unsupported)
