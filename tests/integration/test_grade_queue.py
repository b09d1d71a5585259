"""Grading through a real server: commands, dead letters, and judges that are killed wherever it hurts."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from preceptor.cli import run
from preceptor.config import TeacherSettings
from preceptor.local.valkey import EmbeddedValkey
from preceptor.queue import Flow, GradeQueue
from preceptor_serving.auth.redis_acl import acl_user
from preceptor_serving.run import running
from preceptor_teacher.checks import CheckSpec
from preceptor_teacher.service import TeacherService
from tests.faults.judged import ask_all, check_kill, expected, in_court, queue_of
from tests.faults.marks import marks
from tests.support.models import BUNDLED_TEACHER


@pytest.mark.slow
async def test_commands_ask_through_the_queue_with_a_tenant_s_rights_and_letters_say_what_was_asked(
    server: EmbeddedValkey, client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    user = acl_user("local", "tenant-secret", ["checks"])
    client.execute_command("ACL", "SETUSER", user.name, *user.rules)

    def be(url: str, password: str) -> None:
        (tmp_path / "password").write_text(password)
        monkeypatch.setenv("PRECEPTOR_REDIS_URL", url)
        monkeypatch.setenv("PRECEPTOR_REDIS_PASSWORD_FILE", str(tmp_path / "password"))

    async def command(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = await asyncio.to_thread(run, list(words))
        said = capsys.readouterr()
        return code, said.out, said.err

    monkeypatch.setenv("PRECEPTOR_CLIENT_GRADE_THROUGH", "queue")
    be(server.url.replace("//", "//local@"), "tenant-secret")
    settings = TeacherSettings(grpc_port=0, rest_port=0, redis_url=server.url, redis_password=SecretStr(server.password))
    item = ["grade", "--prompt", "2+3=", "--response", "5", "--reference", "5", "--grader", "exact", "--json"]
    async with running(TeacherService((CheckSpec("checks"),)), settings):
        code, out, _ = await command(*item, "--model", "checks")
        told = [json.loads(line) for line in out.splitlines() if line.startswith('{"source"')]
        assert (code, [one["verdict"]["reward"] for one in told]) == (0, [1.0])
        code, _, err = await command(*item)
        assert code == 2
        assert "--model NAME" in err
        code, _, err = await command(*item, "--model", "checks", "--job", "j", "--param", "no=1")
        assert code == 2
        assert "spec.parameters_json.no" in err
        be(server.url, server.password)
        code, out, _ = await command("dlq", "show", "--job", "j", "--json", await letter_id(server))
        letter = json.loads(out[out.index("{\n") :])
        assert (code, letter["reads"], letter["grader"], letter["code"]) == (0, "1 texts", "exact", "INVALID_ARGUMENT")


async def letter_id(server: EmbeddedValkey) -> str:
    async with queue_of(server) as queue:
        [entry] = await queue.dead_letters(Flow("checks", "local", "j"))
        return entry.letter_id


needs_the_pair = pytest.mark.skipif(not BUNDLED_TEACHER.exists(), reason="the bundled pair is not there")


@pytest.mark.slow
@pytest.mark.timeout(120)
@needs_the_pair
@pytest.mark.parametrize("point", ["verdicts read", "verdicts committed", "reply read"])  # the others: make test-faults
async def test_a_judge_that_is_killed_anywhere_loses_no_verdict_and_pays_twice_at_most_what_was_under_way(
    point: str, server: EmbeddedValkey, client: Any, tmp_path: Path
) -> None:
    await check_kill(server, tmp_path, point)
    assert marks(tmp_path / "marks")["died", point] == 1


@pytest.mark.slow
@pytest.mark.timeout(120)
@needs_the_pair
async def test_a_server_that_loses_everything_costs_time_and_the_calls_under_way_of_each_lease(
    server: EmbeddedValkey, client: Any, tmp_path: Path
) -> None:
    async with in_court(server, tmp_path, max_concurrency=1) as court, queue_of(server) as queue:
        door = GradeQueue(queue, "local", deadline_s=50)
        asking = asyncio.create_task(ask_all(door))
        async with asyncio.timeout(50):
            while court.calls < 3:  # noqa: ASYNC110 - the provider tells nobody
                await asyncio.sleep(0.01)
        await asyncio.to_thread(client.flushall)
        assert await asking == expected()
        leases = 2  # of two texts each, where two batches of two texts are held; one call at once is under way
        assert len(expected()) <= court.calls <= len(expected()) + leases
        await door.close()
