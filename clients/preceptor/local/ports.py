"""Ports on this machine: which are free, and who holds one that is not."""

from __future__ import annotations

import random
import socket
from contextlib import suppress
from pathlib import Path

from preceptor.errors import ConfigurationError

LOOPBACK = "127.0.0.1"
EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
FIRST_PORT, FIRST_EPHEMERAL = 20_000, 32_768  # the second is the default of Linux
TRIES = 50


def free_ports(count: int, host: str = LOOPBACK) -> list[int]:
    """Distinct ports that nobody listens on now, for servers that start a little later.

    They lie below the range that the system gives to outgoing connections (and to whoever binds port 0): from inside it, any
    connection made in the meantime could take one away.
    """
    held: list[socket.socket] = []
    try:
        while len(held) < count:
            held.append(_held(host))
        return [one.getsockname()[1] for one in held]
    finally:
        for one in held:
            one.close()


def _held(host: str) -> socket.socket:
    """A socket bound to a free port; held open by the caller until the last is known, so that none comes twice."""
    for port in _candidates():
        one = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        with suppress(OSError):
            one.bind((host, port))
            return one
        one.close()
    raise ConfigurationError(f"no port of {host} is free", field="host", value=host, limit="an address of this machine")


def _candidates() -> list[int]:
    """Some ports that no outgoing connection is given, then 0, which is any."""
    try:
        first = int(EPHEMERAL.read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        first = FIRST_EPHEMERAL
    lasting = range(FIRST_PORT, first)
    return [*random.SystemRandom().sample(lasting, min(TRIES, len(lasting))), 0]


def require_free(port: int, flag: str, host: str = LOOPBACK) -> int:
    """The port itself; `ConfigurationError` naming port, flag and, where the system tells, its holder."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ConfigurationError(
                f"port {port} on {host} is taken{holder_of(port)}",
                field=flag,
                value=port,
                limit="a free port",
                hint=f"stop what listens there, or choose another with {flag} (0 takes any free one)",
            ) from error
    return port


def holder_of(port: int) -> str:
    """` by NAME (pid N)` where psutil is there and may look; otherwise nothing."""
    try:
        import psutil
    except ImportError:
        return ""
    with suppress(psutil.Error, OSError):  # the owner of a socket may be hidden from us: the port is taken all the same
        for connection in psutil.net_connections("tcp"):
            if connection.laddr and connection.laddr[1] == port and connection.status == "LISTEN" and connection.pid:
                return f" by {psutil.Process(connection.pid).name()} (pid {connection.pid})"
    return ""
