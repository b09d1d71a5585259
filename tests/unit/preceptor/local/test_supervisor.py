"""The supervisor with real processes: restarts, budgets, order, no orphans, and what it says."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from preceptor.errors import ConfigurationError, Unavailable
from preceptor.local.child import ChildSpec
from preceptor.local.ports import EPHEMERAL, free_ports, require_free
from preceptor.local.supervisor import Event, RestartPolicy, Supervisor

QUICK = RestartPolicy(deaths=2, window_s=30.0, first_pause_s=0.01, longest_pause_s=0.05)
SLEEPER = """
import pathlib, sys, time
pathlib.Path(sys.argv[1]).write_text("up")
print("hello from a child", flush=True)
time.sleep(60)
"""


def spec(folder: Path, name: str, code: str = SLEEPER, ready_timeout_s: float = 20.0, stop_grace_s: float = 5.0) -> ChildSpec:
    marker = folder / f"{name}.up"

    async def ready() -> bool:
        return marker.exists()

    command = (sys.executable, "-c", code, str(marker))
    return ChildSpec(name, command, folder / f"{name}.log", ready, ready_timeout_s=ready_timeout_s, stop_grace_s=stop_grace_s)


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z"


async def until(condition, timeout_s: float = 20.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, "it did not happen in time"
        await asyncio.sleep(0.02)


async def test_stages_start_in_order_and_stop_in_reverse(tmp_path):
    events: list[Event] = []
    async with Supervisor([[spec(tmp_path, "queue")], [spec(tmp_path, "a"), spec(tmp_path, "b")]], on_event=events.append):
        pass
    said = [(event.kind, event.name) for event in events]
    assert said.index(("ready", "queue")) < min(said.index(("starting", name)) for name in "ab")
    assert max(said.index(("stopped", name)) for name in "ab") < said.index(("stopping", "queue"))


async def test_a_killed_child_is_started_again(tmp_path):
    async with Supervisor([[spec(tmp_path, "worker")]], QUICK) as supervisor:
        first = supervisor.pid("worker")
        os.kill(first, signal.SIGKILL)
        await until(lambda: supervisor.pid("worker") != first)
        assert gone(first)
        assert not gone(supervisor.pid("worker"))
        assert supervisor.restarts("worker") == 1


async def test_a_child_that_keeps_dying_is_given_up_with_its_last_words(tmp_path):
    dying = "import pathlib, sys; pathlib.Path(sys.argv[1]).write_text('up'); sys.exit('my last words')"
    with pytest.raises(Unavailable) as caught:
        async with Supervisor([[spec(tmp_path, "worker", dying)]], QUICK) as supervisor:
            await asyncio.wait_for(supervisor.watch(), 20)
    assert caught.value.field == "worker"
    assert "died 3 times" in caught.value.message
    assert "my last words" in caught.value.hint
    assert str(tmp_path / "worker.log") in caught.value.hint


@pytest.mark.parametrize(
    ("code", "said"),
    [("raise SystemExit('no model')", "before it was ready"), ("import time; time.sleep(60)", "was not ready after")],
)
async def test_a_start_that_fails_stops_what_had_started(tmp_path, code, said):
    events: list[Event] = []
    stages = [[spec(tmp_path, "queue")], [spec(tmp_path, "bad", code, ready_timeout_s=1.5)]]
    with pytest.raises(Unavailable, match=said):
        async with Supervisor(stages, QUICK, events.append):
            pytest.fail("it never became ready")
    assert ("stopped", "queue") in [(event.kind, event.name) for event in events]


async def test_a_child_that_ignores_sigterm_is_killed_after_its_grace(tmp_path):
    deaf = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n{SLEEPER}"
    async with Supervisor([[spec(tmp_path, "deaf", deaf, stop_grace_s=0.3)]]) as supervisor:
        pid = supervisor.pid("deaf")
    assert gone(pid)


@pytest.mark.skipif(sys.platform != "linux", reason="the leash is the kernel's, on Linux alone")
async def test_children_do_not_outlive_a_killed_supervisor(tmp_path):
    program = f"""
import asyncio, pathlib
from tests.unit.preceptor.local.test_supervisor import spec
from preceptor.local.supervisor import Supervisor
async def main():
    folder = pathlib.Path({str(tmp_path)!r})
    async with Supervisor([[spec(folder, "worker")]]) as supervisor:
        (folder / "pid").write_text(str(supervisor.pid("worker")))
        await supervisor.watch()
asyncio.run(main())
"""
    parent = subprocess.Popen([sys.executable, "-c", program], cwd=Path(__file__).parents[4])  # noqa: ASYNC220  it starts at once
    try:
        await until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text() != "")
        child_pid = int((tmp_path / "pid").read_text())
        assert not gone(child_pid)
    finally:
        parent.kill()
        parent.wait(10)
    await until(lambda: gone(child_pid))


def test_a_taken_port_names_port_flag_and_holder():
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        with pytest.raises(ConfigurationError) as caught:
            require_free(port, "--grpc-port")
    assert str(port) in caught.value.message
    assert f"pid {os.getpid()}" in caught.value.message
    assert caught.value.field == "--grpc-port"


def test_free_ports_are_distinct_and_free():
    ports = free_ports(8)
    assert len(set(ports)) == 8
    assert [require_free(port, "--port") for port in ports] == ports


def test_free_ports_lie_where_no_outgoing_connection_is_put():
    if not EPHEMERAL.exists():
        pytest.skip("this system does not say which ports it gives to connections")
    first, last = map(int, EPHEMERAL.read_text(encoding="ascii").split())
    assert first <= 20_000 or not [port for port in free_ports(32) if first <= port <= last]
