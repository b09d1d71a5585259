"""Listening addresses, and what to tell when one is taken."""

from __future__ import annotations

import errno
import socket

from preceptor.errors import ConfigurationError


def host_port(host: str, port: int) -> str:
    """host:port, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def listening_socket(host: str, port: int, knob: str) -> socket.socket:
    """A bound TCP socket; `ConfigurationError` names the knob to change where that fails."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise cannot_listen(host, port, knob, _why(error)) from None
    return listener


def cannot_listen(host: str, port: int, knob: str, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"cannot listen on {host_port(host, port)}: {why}",
        field=knob,
        value=port,
        limit="a free port of this machine",
        hint=f"choose another with --{knob.replace('_', '-')}, or 0 for any free one",
    )


def _why(error: OSError) -> str:
    return "the port is taken" if error.errno == errno.EADDRINUSE else (error.strerror or str(error))
