"""A provider's key is shown by nothing that people or machines read, on good days and bad ones."""

from __future__ import annotations

import traceback
from pathlib import Path

import httpx
import pytest

from preceptor.cli import run
from preceptor.client import AsyncTeacherClient, GradeOptions, ScoreItem
from preceptor.config import TeacherSettings
from preceptor.errors import PreceptorError
from preceptor.types import GradeItem, Scored, Sequence, Want
from preceptor_serving.engine_host.channel import EngineSpec
from preceptor_serving.engine_host.placement import in_this_process
from preceptor_serving.run import running
from preceptor_teacher.api import ApiOptions, ChatClient
from preceptor_teacher.catalog import TeacherSpec
from preceptor_teacher.judges import JudgeSpec
from preceptor_teacher.service import TeacherService
from preceptor_teacher.testing import FaultPlan, standing_in
from tests.support.models import BUNDLED_TEACHER

KEY = "sk-canary-a1b2c3d4e5f60718"
ITEM = GradeItem("478+356", "834")


def content_of(folder: Path) -> bytes:
    files = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    assert files
    return b"".join(files)


@pytest.mark.skipif(not BUNDLED_TEACHER.exists(), reason="the bundled pair is not there")
async def test_no_door_metric_log_or_file_shows_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd, caplog):
    monkeypatch.setenv("PROVIDER_KEY", KEY)
    faults = FaultPlan(script=("expired_key", "truncated", "refusal", "malformed_tool_call", "server_error"))
    seen: list[str] = []
    async with standing_in(BUNDLED_TEACHER, faults=faults, api_key=KEY) as provider:
        options = ApiOptions(
            base_url=provider.base_url,
            model="m",
            api_key_env="PROVIDER_KEY",
            private_hosts=("127.0.0.1",),
            ledger_folder=tmp_path / "ledger",
            max_attempts=1,
        )
        service = TeacherService((JudgeSpec("judge", options),))
        settings = TeacherSettings(grpc_port=0, rest_port=0, log_level="debug")
        async with (
            running(service, settings) as house,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{house.rest_port}", trust_env=False) as http,
        ):
            client = AsyncTeacherClient(f"127.0.0.1:{house.grpc_port}")
            for _ in range(5):
                seen += map(repr, await client.grade("judge", [ITEM], GradeOptions(), deadline_s=30))
            seen.append(repr(await client.describe("judge")))
            await client.close()
            for path in ("/metrics", "/v1/teachers", "/v1/status", "/v1/usage", "/readyz"):
                seen.append((await http.get(path)).text)
            seen.append(str(house.lifecycle.status()))
        assert provider.provider.seen["expired_key"] == 1
    assert "preceptor_provider_calls_total" in "".join(seen)
    for how in ([], ["--json"]):
        assert run(["config", "show", *how]) == 0
    seen += [repr(options), options.model_dump_json(), "".join(capfd.readouterr()), caplog.text]
    assert not any(KEY in text for text in seen)
    assert KEY.encode() not in content_of(tmp_path)


@pytest.mark.parametrize("answer", [401, 503, 200])
async def test_no_traceback_shows_it_even_with_its_locals(answer):
    options = ApiOptions(base_url="https://provider.example/v1", model="m", api_key_env="K", max_attempts=1)
    echo = httpx.MockTransport(lambda request: httpx.Response(answer, content=request.headers["authorization"]))
    client = ChatClient(options, options.key({"K": KEY}), echo)
    with pytest.raises(PreceptorError) as failed:
        await client.complete([{"role": "user", "content": "hi"}])
    told = traceback.TracebackException.from_exception(failed.value, capture_locals=True)
    assert KEY not in "".join(told.format())
    await client.close()


@pytest.mark.skipif(not BUNDLED_TEACHER.exists(), reason="the bundled pair is not there")
async def test_a_served_echo_teacher_shows_it_nowhere(monkeypatch: pytest.MonkeyPatch, capfd, caplog):
    monkeypatch.setenv("PROVIDER_KEY", KEY)
    bad_days = ("expired_key", "truncated", "server_error")
    faults = FaultPlan(script=("", "", *bad_days))  # the engine's own question, and one good answer
    shared = {"name": "far", "folder": BUNDLED_TEACHER, "model": "m", "dialect": "openai", "max_sequence_tokens": 99}
    seen: list[str] = []
    async with standing_in(BUNDLED_TEACHER, faults=faults, api_key=KEY) as provider:
        options = {**shared, "base_url": provider.base_url, "private_hosts": ("127.0.0.1",), "api_key_env": "PROVIDER_KEY"}
        spec = TeacherSpec(EngineSpec("far", "echo", {**options, "max_attempts": 1}))
        service = TeacherService((spec,), in_this_process)
        settings = TeacherSettings(grpc_port=0, rest_port=0, log_level="debug")
        async with (
            running(service, settings) as house,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{house.rest_port}", trust_env=False) as http,
            AsyncTeacherClient(f"127.0.0.1:{house.grpc_port}") as client,
        ):
            item = ScoreItem(Sequence.of([6, 7], [8, 9]), Want(sampled=True))
            [good] = await client.score("far", [item])
            assert isinstance(good, Scored), good
            for _ in bad_days:
                [bad] = await client.score("far", [item])
                assert isinstance(bad, PreceptorError)
                seen += [repr(bad), bad.hint]
            seen.append(repr(await client.describe("far")))
            for path in ("/metrics", "/v1/teachers", "/v1/status", "/v1/usage", "/readyz"):
                seen.append((await http.get(path)).text)
            seen.append(str(house.lifecycle.status()))
        assert provider.provider.seen["expired_key"] == 1
    for how in ([], ["--json"]):
        assert run(["config", "show", *how]) == 0
    told = "".join(capfd.readouterr()) + caplog.text
    assert "Score" in told, "the log names the requests"
    seen += [repr(spec), told]
    assert not any(KEY in text for text in seen)
