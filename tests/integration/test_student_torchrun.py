"""`preceptor serve student` under torchrun: one service for the learner, two ranks behind it; none outlives the other."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import grpc
import httpx
import pytest

from preceptor.errors import PreceptorError
from preceptor.local.ports import LOOPBACK, free_ports
from preceptor_proto.v1 import student_pb2, student_pb2_grpc
from preceptor_student.checkpoints import steps
from tests.unit.preceptor_student.test_service import open_request, take_step, told

ROOT = Path(__file__).parents[2]
END_S = 45.0


@dataclass(frozen=True, slots=True)
class Launched:
    """The launcher, and where rank 0 serves."""

    process: subprocess.Popen[bytes]
    grpc_port: int
    log: Path

    def rank(self, number: int) -> int:
        """Its process id."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        found = {_rank_of(int(child)): int(child) for child in children}
        return found[number]


def _rank_of(pid: int) -> int | None:
    variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    ranks = [one for one in variables if one.startswith(b"RANK=")]
    return int(ranks[0].partition(b"=")[2]) if ranks else None


@contextmanager
def launched(folder: Path, *more: str) -> Iterator[Launched]:
    """Two ranks, ready to serve; nothing of them is left behind."""
    grpc_port, rest_port, meeting_port = free_ports(3)
    words = ["--model", f"tiny={ROOT / 'examples/tiny/student'}", "--runs-root", str(folder / "runs")]
    ports = ["--grpc-port", str(grpc_port), "--rest-port", str(rest_port)]
    torchrun = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(meeting_port)]
    command = [sys.executable, *torchrun, "-m", "preceptor", "serve", "student", *words, *ports, *more]
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True, cwd=ROOT)
    try:
        _wait_until_ready(f"http://{LOOPBACK}:{rest_port}/readyz", process, log)
        yield Launched(process, grpc_port, log)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(END_S)


def _wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + END_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(url, timeout=1.0).is_success:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.2)
    pytest.fail(f"rank 0 does not serve: {log.read_text()[-3000:]}")


@pytest.mark.slow
def test_a_learner_trains_with_two_ranks_and_a_stop_ends_both(tmp_path: Path) -> None:
    async def trained(port: int) -> None:
        async with grpc.aio.insecure_channel(f"{LOOPBACK}:{port}") as channel:
            stub = student_pb2_grpc.StudentStub(channel)
            opened = await told(stub.OpenRun(open_request()))
            await take_step(stub, opened.epoch, 1, seed=1)
            await told(stub.Checkpoint(student_pb2.CheckpointRequest(run="r", epoch=opened.epoch)))
            await told(stub.Publish(student_pb2.PublishRequest(run="r", epoch=opened.epoch)))

    with launched(tmp_path) as service:
        asyncio.run(trained(service.grpc_port))
        follower = service.rank(1)
        service.process.send_signal(signal.SIGTERM)
        service.process.wait(END_S)
    assert not Path(f"/proc/{follower}").exists()
    assert steps(tmp_path / "runs/r/checkpoints") == [1]
    assert len(list((tmp_path / "runs/r/checkpoints/step-1").glob("model-*-of-00002.safetensors"))) == 2
    assert len(list((tmp_path / "runs/r/versions").glob("step-1-epoch-1/model.safetensors"))) == 1


def runs(pid: int) -> bool:
    """Whether the process has not ended; one that nobody has waited for has no command any more."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes() != b""
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_follower_that_is_gone_or_says_nothing_ends_the_service(number: signal.Signals, tmp_path: Path) -> None:
    async def failed(service: Launched) -> None:
        async with grpc.aio.insecure_channel(f"{LOOPBACK}:{service.grpc_port}") as channel:
            stub = student_pb2_grpc.StudentStub(channel)
            opened = await told(stub.OpenRun(open_request()))
            leader, follower = service.rank(0), service.rank(1)
            os.kill(follower, number)
            with pytest.raises((PreceptorError, grpc.aio.AioRpcError)):
                await take_step(stub, opened.epoch, 1, seed=1)
            async with asyncio.timeout(END_S):  # rank 0 ends by itself; the launcher waits for both
                while runs(leader):  # noqa: ASYNC110 - nobody tells
                    await asyncio.sleep(0.1)
            with suppress(ProcessLookupError):
                os.kill(follower, signal.SIGKILL)

    with launched(tmp_path, "--rank-deadline-s", "20") as service:
        asyncio.run(failed(service))
        assert service.process.wait(END_S) == 1
