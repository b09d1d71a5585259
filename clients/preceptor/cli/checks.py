"""The checks of `preceptor doctor`; each looks at one thing and says what it found."""

from __future__ import annotations

import platform
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from preceptor._version import __version__
from preceptor.config import Loaded, ServiceSettings, Settings, knobs_of
from preceptor.extras import base_parts, extras, installed_version, missing_parts, parts_of, pip_command

REDIS_TIMEOUT_S = 2.0
REDIS_FLOOR = (7, 0)
REDIS_POLICY = "noeviction"
CUDA_PARTS = ("nvidia-cublas", "nvidia-cublas-cu12", "nvidia-cublas-cu13")
LOW_DISK_GIB = 10
GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found; `hint` says what to do about a warning or failure."""

    check: str
    status: Literal["ok", "warn", "fail"]
    detail: str
    hint: str = ""


Configuration = Mapping[str, Loaded[Settings]]


def check_python(_: Configuration) -> Iterator[Finding]:
    """The interpreter and Preceptor itself."""
    yield Finding("python", "ok", f"{platform.python_version()} on {platform.machine()}, preceptor {__version__}")


def check_parts(_: Configuration) -> Iterator[Finding]:
    """The versions of what the light client stands on."""
    versions = {name: installed_version(name) for name in base_parts()}
    if missing := [name for name, found in versions.items() if found is None]:
        yield Finding("client", "fail", f"missing: {', '.join(missing)}", "pip install preceptor")
    else:
        yield Finding("client", "ok", ", ".join(f"{name} {found}" for name, found in versions.items()))


def check_extras(_: Configuration) -> Iterator[Finding]:
    """Which extras are complete, and the command for each that is not. An absent extra is no fault."""
    for extra in sorted(extras()):
        if missing := missing_parts(extra):
            yield Finding(f"extra {extra}", "warn", f"missing: {', '.join(missing)}", pip_command(extra))
        else:
            parts = (f"{name} {installed_version(name)}" for name in parts_of(extra))
            yield Finding(f"extra {extra}", "ok", ", ".join(parts))


def check_ports(configuration: Configuration) -> Iterator[Finding]:
    """Whether each service could listen where it is configured to."""
    for section, loaded in configuration.items():
        settings = loaded.settings
        if isinstance(settings, ServiceSettings):
            yield _port(section, "grpc_port", settings.host, settings.grpc_port, settings)
            yield _port(section, "rest_port", settings.host, settings.rest_port, settings)


def check_redis(configuration: Configuration) -> Iterator[Finding]:
    """Whether the configured Redis answers and is new enough."""
    settings = next(iter(configuration.values())).settings
    if settings.redis_url is None:
        yield Finding("redis", "ok", "not configured (redis_url is unset): no durable door")
        return
    import redis

    password = settings.redis_password.get_secret_value() if settings.redis_password else None
    client = redis.Redis.from_url(  # pyright: ignore[reportUnknownMemberType]  # its keyword arguments are untyped
        settings.redis_url, password=password, socket_timeout=REDIS_TIMEOUT_S, socket_connect_timeout=REDIS_TIMEOUT_S
    )
    try:
        version = str(client.info("server")["redis_version"])  # pyright: ignore[reportUnknownMemberType]
        policy = str(client.info("memory")["maxmemory_policy"])  # pyright: ignore[reportUnknownMemberType]
    except redis.RedisError as error:
        yield Finding("redis", "fail", f"{settings.redis_url}: {error}", "start it, or correct redis_url / redis_password")
        return
    finally:
        client.close()
    yield _redis_version(settings.redis_url, version)
    yield _redis_policy(policy)


def check_torch(_: Configuration) -> Iterator[Finding]:
    """Which build of torch is installed, without importing it."""
    version = installed_version("torch")
    if version is None:
        return  # check_extras says which extra brings it
    if version.endswith("+cpu"):
        yield Finding("torch", "ok", f"{version}, a CPU build")
    elif any(installed_version(name) for name in CUDA_PARTS):
        yield Finding("torch", "ok", f"{version}, a CUDA build")
    else:
        yield Finding("torch", "ok", f"{version}, no CUDA libraries beside it")


def check_disk(_: Configuration) -> Iterator[Finding]:
    """Room for checkpoints and caches in the working folder."""
    free_gib = shutil.disk_usage(Path.cwd()).free / GIB
    detail = f"{free_gib:.1f} GiB free in the working folder"
    low = free_gib < LOW_DISK_GIB
    yield Finding("disk", "warn" if low else "ok", detail, "checkpoints and weight versions need room" if low else "")


CHECKS: tuple[Callable[[Configuration], Iterator[Finding]], ...] = (
    check_python,
    check_parts,
    check_extras,
    check_torch,
    check_ports,
    check_redis,
    check_disk,
)
"""What `preceptor doctor` runs, in order. A new check is one generator of `Finding` here."""


def _port(section: str, field: str, host: str, port: int, settings: Settings) -> Finding:
    knob = knobs_of(type(settings))[field]
    reason = _cannot_listen(host, port)
    if reason is None:
        return Finding(f"port {section}", "ok", f"{host}:{port} ({knob.label}) is free")
    detail = f"{host}:{port} ({knob.label}): {reason}"
    return Finding(f"port {section}", "warn", detail, f"stop what listens there, or choose another with {knob.flag} / {knob.env}")


def _cannot_listen(host: str, port: int) -> str | None:
    """Why a server could not listen there, or None. A service that runs already looks just like this."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error.strerror or str(error)
    return None


def _redis_version(url: str, version: str) -> Finding:
    parts = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if parts < REDIS_FLOOR:
        return Finding("redis", "fail", f"{url} answers as {version}", "Redis 7.0 or newer, or Valkey, is needed")
    return Finding("redis", "ok", f"{url} answers as {version}")


def _redis_policy(policy: str) -> Finding:
    if policy == REDIS_POLICY:
        return Finding("redis policy", "ok", f"maxmemory-policy {policy}")
    hint = f"set maxmemory-policy {REDIS_POLICY}: a full server has to refuse, not to forget results"
    return Finding("redis policy", "fail", f"maxmemory-policy {policy}", hint)
