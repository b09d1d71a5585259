"""A container engine for the story: the one that this machine has, or a private one that leaves nothing behind."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.compose.tools import Failed, Skipped, attempt, insist

START_S, STOP_S = 40.0, 30.0
NEEDED = {"dockerd": "docker.io", "iptables-save": "iptables", "mmdebstrap": "mmdebstrap", "ip": "iproute2"}
"""Command -> its Debian package, for a private engine and the base images it cannot pull."""
TABLES = tuple((family, table) for family in ("iptables", "ip6tables") for table in ("filter", "nat"))


def has_engine() -> bool:
    """True where `docker compose` works against a running engine."""
    return not attempt(["docker", "info"]).code and not attempt(["docker", "compose", "version"]).code


def check_private_engine() -> None:
    """`Skipped` with the reason where no private engine can be started."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise Skipped("no container engine with docker compose answers; as root on Debian one would be started for the test")
    if missing := sorted(package for command, package in NEEDED.items() if shutil.which(command) is None):
        raise Skipped(f"no container engine answers, and a private one needs: apt-get install {' '.join(missing)}")
    if not attempt(["ip", "link", "show", "docker0"]).code:
        raise Skipped("another engine uses this machine's docker0 bridge, but does not answer at DOCKER_HOST")


@contextmanager
def private_engine(work: Path) -> Generator[Mapping[str, str]]:
    """The environment in which `docker` speaks to an engine of its own under `work`, for the length of the block."""
    env = {name: value for name, value in os.environ.items() if name != "DOCKER_CONTEXT"}
    env |= {"DOCKER_HOST": f"unix://{work / 'engine.sock'}", "DOCKER_CONFIG": str(work / "config")}
    _compose_plugin(work, env)
    with ExitStack() as stack:
        stack.enter_context(_network_as_before())
        log = stack.enter_context((work / "engine.log").open("wb"))
        places = ("--data-root", work / "data", "--exec-root", work / "exec", "--pidfile", work / "engine.pid")
        command = [str(part) for part in ("dockerd", *places, "-H", env["DOCKER_HOST"])]
        engine = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)
        stack.callback(_stop, engine)
        _wait_for(engine, env, work / "engine.log")
        yield env


def _wait_for(engine: subprocess.Popen[bytes], env: Mapping[str, str], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while attempt(["docker", "version"], env=env).code:
        if engine.poll() is not None or time.monotonic() > deadline:
            raise Failed(f"the private engine did not start:\n{log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.5)


def _stop(engine: subprocess.Popen[bytes]) -> None:
    engine.terminate()  # the engine ends its containerd, and that its containers
    try:
        engine.wait(STOP_S)
    except subprocess.TimeoutExpired:
        engine.kill()
        engine.wait()


@contextmanager
def _network_as_before() -> Generator[None]:
    """Firewall tables, forwarding and bridges as they were: an engine leaves its own behind when it stops."""
    forward = Path("/proc/sys/net/ipv4/ip_forward")
    forwarded = forward.read_text()
    tables = {(family, table): attempt([f"{family}-save", "-t", table]) for family, table in TABLES}
    try:
        yield
    finally:
        attempt(["ip", "link", "delete", "docker0"])
        forward.write_text(forwarded)
        for (family, _), saved in tables.items():
            if saved.code == 0:
                rules = "".join(line for line in saved.output.splitlines(keepends=True) if not line.startswith("#"))
                subprocess.run([f"{family}-restore"], input=rules.encode(), check=False, timeout=30)


def _compose_plugin(work: Path, env: Mapping[str, str]) -> None:
    """Compose v2 and buildx, unpacked from trixie under `work`: bookworm has neither, and nothing gets installed."""
    if attempt(["docker", "compose", "version"], env=env).code == 0:
        return
    plugins = work / "config" / "cli-plugins"
    plugins.mkdir(parents=True)
    apt = work / "apt"
    for folder in ("lists/partial", "cache/archives/partial"):
        (apt / folder).mkdir(parents=True)
    keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
    (apt / "sources.list").write_text(f"deb [signed-by={keyring}] {debian_archive()} trixie main\n")
    options = {"sourcelist": apt / "sources.list", "sourceparts": "/nonexistent"}
    where = [f"-oDir::Etc::{name}={value}" for name, value in options.items()]
    where += [f"-oDir::State::lists={apt / 'lists'}", f"-oDir::Cache={apt / 'cache'}"]
    insist(["apt-get", *where, "update"], timeout_s=120)
    insist(["apt-get", *where, "download", "docker-compose", "docker-buildx"], timeout_s=120, cwd=apt)
    for package in apt.glob("*.deb"):
        insist(["dpkg-deb", "-x", package, apt / "unpacked"])
    for plugin in (apt / "unpacked" / "usr" / "libexec" / "docker" / "cli-plugins").iterdir():
        (plugins / plugin.name).symlink_to(plugin)


def debian_archive() -> str:
    """Where this machine's own apt gets bookworm from."""
    form = "$(REPO_URI) $(CODENAME) $(CREATED_BY)"
    for _ in range(2):
        rows = [line.split() for line in insist(["apt-get", "indextargets", "--format", form]).splitlines()]
        if found := [row[0] for row in rows if row[1:] == ["bookworm", "Packages"]]:
            return found[0]
        insist(["apt-get", "update"], timeout_s=120)
    raise Skipped("the private engine's base images come from Debian bookworm, which is not among apt's sources")
