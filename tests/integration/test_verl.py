"""verl's own worker and losses, in an environment of its own, with our teacher in place of its servers: `make test-verl`."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

from benchmarks.loss.environments import interpreter_of
from preceptor.config.settings import TeacherSettings
from preceptor_serving.engine_host.channel import EngineSpec
from preceptor_serving.engine_host.placement import in_this_process
from preceptor_serving.run import running
from preceptor_teacher.catalog import TeacherSpec
from preceptor_teacher.service import TeacherService

ROOT = Path(__file__).parents[2]
HOME = Path(".venv-verl")
VERL = ("verl==0.9.1", "torch==2.13.0", "transformers==5.10.4", "tensordict==0.10.0", "ray==2.60.0")
UNDECLARED = ("cachetools==8.0.2", "fastapi==0.165.0", "uvicorn==0.54.0")  # verl imports them and names them nowhere
PINNED = (*VERL, *UNDECLARED, "--editable", ".")
OFFLINE = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
ENTRIES = ("teacher_model", "first", "second")


@pytest.mark.verl
@pytest.mark.timeout(1800)  # the environment is made once
async def test_verls_worker_gets_from_our_teacher_what_its_own_servers_would_tell(tmp_path: Path) -> None:
    python, found = await asyncio.to_thread(interpreter_of, HOME, PINNED), tmp_path / "found.json"
    engine = EngineSpec("tiny", "hf", {"name": "tiny", "folder": str(ROOT / "examples" / "tiny" / "teacher")})
    teacher = TeacherService([TeacherSpec(engine, aliases=ENTRIES)], in_this_process)
    async with running(teacher, TeacherSettings(grpc_port=0, rest_port=0)) as house:
        side = [str(Path(__file__).with_name("verl_side.py")), f"127.0.0.1:{house.grpc_port}", str(found)]
        done = await asyncio.create_subprocess_exec(str(python), *side, cwd=ROOT, env={**os.environ, **OFFLINE})
        assert await asyncio.wait_for(done.wait(), 600) == 0
    told = json.loads(found.read_text())
    assert [(case["loss_mode"], len(case["entries"])) for case in told] == [
        ("forward_kl_topk", 0), ("forward_kl_topk", 2), ("k3", 0), ("k3", 2),
    ]  # fmt: skip
    for case in told:
        assert case["ids"], case
        assert case["shapes"][0] == case["shapes"][1], case
        assert case["types"][0] == case["types"][1], case
        assert 0 < case["apart"] < 1e-4, case  # theirs are of float64, so equal to the bit would be one side twice
    for ours, theirs in (case["losses"] for case in told[:2]):
        assert max(theirs) > 0.1, "losses of nothing agree"
        assert ours == pytest.approx(theirs, rel=1e-3, abs=1e-4)
