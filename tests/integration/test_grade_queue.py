"""Grading through a real server: commands, dead letters, and judges that are killed wherever it hurts."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import redis

from examples.tiny.task import load
from preceptor.cli import run
from preceptor.client.grading import GradeOptions, grade_request, read_verdicts
from preceptor.config import TeacherSettings
from preceptor.errors import InvalidArgument
from preceptor.local.valkey import EmbeddedValkey
from preceptor.queue import Flow, GradeQueue
from preceptor.queue.redis import RedisQueue
from preceptor.types import GradeItem
from preceptor_serving.run import running
from preceptor_teacher.api.points import POINTS as CALL_POINTS
from preceptor_teacher.checks import CheckSpec
from preceptor_teacher.service import TeacherService
from preceptor_teacher.testing import StandIn, standing_in
from preceptor_teacher.testing.judging import agreement
from preceptor_teacher.worker.points import GRADE_POINTS
from tests.faults.judge_process import JUDGE, JudgeJob
from tests.faults.marks import marks
from tests.support.models import BUNDLED_TEACHER

AT_ONCE = 2
PROBLEMS = load("heldout")[:6]
KILLED = -signal.SIGKILL


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedValkey]:
    with EmbeddedValkey(tmp_path_factory.mktemp("valkey")) as valkey:
        yield valkey


@pytest.fixture
def client(server: EmbeddedValkey) -> Any:
    found = redis.Redis(port=server.port, password=server.password, socket_timeout=5)
    found.flushall()
    return found


@asynccontextmanager
async def queue_of(server: EmbeddedValkey) -> AsyncGenerator[RedisQueue]:
    queue = await RedisQueue.connect(server.url, password=server.password)
    try:
        yield queue
    finally:
        await queue.close()


@pytest.mark.slow
async def test_commands_ask_through_the_queue_and_its_letters_say_what_was_asked(
    server: EmbeddedValkey, client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "password").write_text(server.password)
    monkeypatch.setenv("PRECEPTOR_REDIS_URL", server.url)
    monkeypatch.setenv("PRECEPTOR_REDIS_PASSWORD_FILE", str(tmp_path / "password"))
    monkeypatch.setenv("PRECEPTOR_CLIENT_GRADE_THROUGH", "queue")
    settings = TeacherSettings(grpc_port=0, rest_port=0, redis_url=server.url, redis_password=server.password)  # pyright: ignore[reportArgumentType]
    item = ["--prompt", "2+3=", "--response", "5", "--reference", "5", "--grader", "exact", "--json"]
    async with running(TeacherService((CheckSpec("checks"),)), settings):
        capsys.readouterr()
        assert await asyncio.to_thread(run, ["grade", *item, "--model", "checks"]) == 0
        told = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith('{"source"')]
        assert [one["verdict"]["reward"] for one in told] == [1.0]
        assert await asyncio.to_thread(run, ["grade", *item]) == 2
        assert "--model NAME" in capsys.readouterr().err
        assert await asyncio.to_thread(run, ["grade", *item, "--model", "checks", "--job", "j", "--param", "no=1"]) == 2
        assert await asyncio.to_thread(run, ["dlq", "show", "--job", "j", "--json", await letter_id(server)]) == 0
        out = capsys.readouterr().out
        letter = json.loads(out[out.index("{\n") :])
        assert (letter["reads"], letter["grader"], letter["code"]) == ("1 texts", "exact", "INVALID_ARGUMENT")


async def letter_id(server: EmbeddedValkey) -> str:
    async with queue_of(server) as queue:
        [entry] = await queue.dead_letters(Flow("checks", "local", "j"))
        return entry.letter_id


# ---------------------------------------------------------------- kills


@dataclass
class Theatre:
    """A provider, a server, and the judge's process, which is started again when it was killed."""

    job: JudgeJob
    provider: StandIn
    deaths: int = 0

    async def keep(self) -> None:
        job = self.job
        while True:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "preceptor.local.leash", str(os.getpid())),
                *(sys.executable, "-m", "tests.faults.judge_process", json.dumps(asdict(job))),
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
            try:
                code = await process.wait()
            finally:
                if process.returncode is None:
                    process.terminate()
                    await process.wait()
            assert code in (0, KILLED), f"the judge ended with code {code}"
            self.deaths += code == KILLED
            job = replace(job, kill_point="")

    @property
    def calls(self) -> int:
        return self.provider.provider.seen["chat"]


@asynccontextmanager
async def theatre(server: EmbeddedValkey, folder: Path, **told: Any) -> AsyncGenerator[Theatre]:
    async with standing_in(BUNDLED_TEACHER) as provider:
        paths = {name: str(folder / name) for name in ("marks", "ledger")}
        job = JudgeJob(
            server.url, server.password, **paths, provider=provider.base_url, name="one", **{"max_concurrency": AT_ONCE, **told}
        )
        stage = Theatre(job, provider)
        keeper = asyncio.create_task(stage.keep())
        try:
            yield stage
        finally:
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)


async def ask_all(door: GradeQueue) -> list[float | None]:
    """The rewards of a right and a wrong answer to each problem, one request a problem."""

    async def ask(prompt: str, worked: str) -> list[float | None]:
        items = [GradeItem(prompt, worked), GradeItem(prompt, worked.split(maxsplit=1)[0])]
        reply = await door.grade(grade_request(JUDGE, items, GradeOptions(job="run")), deadline_s=50)
        verdicts: list[Any] = read_verdicts(reply, len(items))
        return [one.reward for one in verdicts]

    found = await asyncio.gather(*(ask(one.prompt, one.worked) for one in PROBLEMS))
    return [reward for pair in found for reward in pair]


def expected() -> list[float]:
    return [agreement(one.worked, text) for one in PROBLEMS for text in (one.worked, one.worked.split(maxsplit=1)[0])]


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.skipif(not BUNDLED_TEACHER.exists(), reason="the bundled pair is not there")
@pytest.mark.parametrize("point", [*GRADE_POINTS, *CALL_POINTS])
async def test_a_judge_that_is_killed_anywhere_loses_no_verdict_and_pays_twice_at_most_what_was_under_way(
    point: str, server: EmbeddedValkey, client: Any, tmp_path: Path
) -> None:
    async with theatre(server, tmp_path, kill_point=point, kill_hit=2) as stage, queue_of(server) as queue:
        door = GradeQueue(queue, "local", deadline_s=50)
        assert await ask_all(door) == expected()
        assert stage.deaths == 1, "the kill did not happen"
        assert marks(tmp_path / "marks")["died", point] == 1
        assert len(expected()) <= stage.calls <= len(expected()) + AT_ONCE, "paid twice: more than was under way"
        flow = Flow(JUDGE, "local", "run")
        assert await queue.read_out(flow) == (), "a verdict was told twice"
        assert await queue.dead_letters(flow) == ()
        await door.close()


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.skipif(not BUNDLED_TEACHER.exists(), reason="the bundled pair is not there")
async def test_a_server_that_loses_everything_costs_time_and_the_calls_under_way_of_each_lease(
    server: EmbeddedValkey, client: Any, tmp_path: Path
) -> None:
    async with theatre(server, tmp_path, max_concurrency=1) as stage, queue_of(server) as queue:
        door = GradeQueue(queue, "local", deadline_s=50)
        asking = asyncio.create_task(ask_all(door))
        while stage.calls < 3:  # noqa: ASYNC110 - the provider tells nobody
            await asyncio.sleep(0.01)
        await asyncio.to_thread(client.flushall)
        assert await asking == expected()
        leases = 2  # of two texts each, where two batches of two texts are held; one call at once is under way
        assert len(expected()) <= stage.calls <= len(expected()) + leases
        await door.close()


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.skipif(not BUNDLED_TEACHER.exists(), reason="the bundled pair is not there")
async def test_a_question_that_no_worker_can_take_is_a_dead_letter_and_the_others_are_answered(
    server: EmbeddedValkey, client: Any, tmp_path: Path
) -> None:
    async with theatre(server, tmp_path) as stage, queue_of(server) as queue:
        door = GradeQueue(queue, "local", deadline_s=50)
        bad = grade_request(JUDGE, [GradeItem("p", "r")], GradeOptions(parameters={"steps": "paragraphs"}, job="run"))
        told, rewards = await asyncio.gather(door.grade(bad), ask_all(door), return_exceptions=True)
        assert isinstance(told, InvalidArgument)
        assert rewards == expected()
        [letter] = await queue.dead_letters(Flow(JUDGE, "local", "run"))
        assert letter.letter.attempts == 3
        assert stage.calls == len(expected())
        await door.close()
