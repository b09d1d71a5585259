"""TRL's own DistillationTrainer, in an environment of its own, with our teacher in place of its local one: `make test-trl`."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from pathlib import Path

import pytest

from benchmarks.loss.trl_parity import HOME, environment
from preceptor.config.settings import TeacherSettings
from preceptor_serving.engine_host.channel import EngineSpec
from preceptor_serving.engine_host.placement import in_this_process
from preceptor_serving.run import running
from preceptor_teacher.catalog import TeacherSpec
from preceptor_teacher.service import TeacherService

ROOT = Path(__file__).parents[2]
OFFLINE = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


def with_preceptor() -> Path:
    """The interpreter of TRL's environment, with this checkout in it."""
    python = environment()
    ready = HOME / ".ready-with-preceptor"
    if not ready.exists():
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", "--editable", "."], check=True, cwd=ROOT)
        ready.touch()
    return python


@pytest.mark.trl
@pytest.mark.timeout(1800)  # the environment is made once
async def test_losses_and_gradients_are_those_of_trls_local_teacher(tmp_path):
    python, found = await asyncio.to_thread(with_preceptor), tmp_path / "found.json"
    spec = TeacherSpec(EngineSpec("tiny", "hf", {"name": "tiny", "folder": str(ROOT / "examples" / "tiny" / "teacher")}))
    async with running(TeacherService([spec], in_this_process), TeacherSettings(grpc_port=0, rest_port=0)) as house:
        side = [str(Path(__file__).with_name("trl_side.py")), f"127.0.0.1:{house.grpc_port}", str(found)]
        done = await asyncio.create_subprocess_exec(str(python), *side, cwd=ROOT, env={**os.environ, **OFFLINE})
        assert await done.wait() == 0
    told = json.loads(found.read_text())
    for case in told["cases"]:
        assert case["local"] > 0.1, "losses of nothing agree"
        assert abs(case["whole"] - case["local"]) < 1e-3 * case["local"], case
        assert abs(case["narrow"] - case["narrow truth"]) < 1e-3 * case["narrow truth"], case
        assert case["narrow"] < 0.95 * case["local"], "fewer bins tell less apart"
        assert case["gradient"] < 1e-3, case
        assert case["entropy"] < 1e-4, case
    assert len(told["steps"]) == 2
    assert told["steps"][1] < told["steps"][0]
    assert told["moved"] > 0
