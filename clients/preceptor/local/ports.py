"""Ports on this machine: which are free, and who holds one that is not."""

from __future__ import annotations

import socket
from contextlib import suppress

from preceptor.errors import ConfigurationError

LOOPBACK = "127.0.0.1"


def free_ports(count: int, host: str = LOOPBACK) -> list[int]:
    """Distinct ports that nobody listens on now; all are held open until the last is known, so that none comes twice."""
    held = [socket.socket(socket.AF_INET, socket.SOCK_STREAM) for _ in range(count)]
    try:
        for one in held:
            one.bind((host, 0))
        return [one.getsockname()[1] for one in held]
    finally:
        for one in held:
            one.close()


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
