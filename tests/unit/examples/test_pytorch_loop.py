"""The plain PyTorch loop of the examples learns from a teacher that is a service."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import torch

from examples import pytorch_loop
from preceptor.config.settings import TeacherSettings
from preceptor_serving.engine_host.channel import EngineSpec
from preceptor_serving.engine_host.placement import in_this_process
from preceptor_serving.run import running
from preceptor_teacher.catalog import TeacherSpec
from preceptor_teacher.service import TeacherService

TINY = Path(__file__).parents[3] / "examples" / "tiny"
STEPS = 6


@pytest.mark.slow
async def test_a_plain_loop_comes_nearer_to_its_teacher():
    torch.manual_seed(0)
    spec = TeacherSpec(EngineSpec("tiny", "hf", {"name": "tiny", "folder": str(TINY / "teacher")}))
    async with running(TeacherService([spec], in_this_process), TeacherSettings(grpc_port=0, rest_port=0)) as house:
        address = f"127.0.0.1:{house.grpc_port}"
        losses = await asyncio.to_thread(pytorch_loop.main, str(TINY / "student"), address, "tiny", STEPS)
    assert len(losses) == STEPS
    assert min(losses) >= 0, "a divergence over all of the mass"
    assert sum(losses[-2:]) < 0.8 * sum(losses[:2])
