"""The connection to the server: runs scripts by name, tries again inside a deadline, and says in our words what went wrong.

Every script may be sent again when its reply was lost: each recognises its own repeat by a fence, an operation number or the
content itself. So a call is tried until it succeeds or the patience ends, whatever happened to the connection in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from inspect import signature
from itertools import count
from typing import Any, TypeVar, cast

from redis import exceptions
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import EqualJitterBackoff, NoBackoff

from preceptor.errors import (
    ConfigurationError,
    Corrupt,
    Exhausted,
    Internal,
    PermissionDenied,
    PreceptorError,
    Unauthenticated,
    Unavailable,
)
from preceptor.logs import get_logger
from preceptor.queue.redis.loading import LuaScript, scripts
from preceptor.queue.types import Clock
from preceptor.redaction import redact_text

log = get_logger(__name__)
T = TypeVar("T")
Value = str | bytes | int | float

BROKEN_VALUES = ("WRONGTYPE", "user_script")  # a key of another type; a value that a script cannot compute with
PASSING = ("LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "MISCONF", "NOREPLICAS", "BUSY", "UNKILLABLE")
"""Refusals of a server that is starting, failing over, short of disk or busy: they pass."""


ACL_IN_SCRIPT = ("ACL failure in script", "The user executing the script")  # newer servers; Redis 7.0
_NOT_ALLOWED = (exceptions.AuthorizationError, exceptions.NoPermissionError)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a call may take and how it is tried again. No call outlives `total_s`."""

    total_s: float = 30.0  # longer than a server pauses for a fork, a failover or a restart
    attempt_s: float = 5.0  # for one reply; a stopped server or a half-open connection costs this much
    first_pause_s: float = 0.02
    longest_pause_s: float = 1.0
    connections: int = 32


def open_client(url: str, password: str | None, patience: Patience, *, name: str = "preceptor") -> Redis:
    """A client whose own retries are off: only this module knows what may be sent again."""
    options: dict[str, Any] = {
        "password": password,
        "socket_timeout": patience.attempt_s,
        "socket_connect_timeout": patience.attempt_s,
        "health_check_interval": 30,
        "retry": Retry(NoBackoff(), 0),
        "client_name": name,
        "protocol": 2,
        **_no_introduction(),
    }
    make_pool = cast("Callable[..., BlockingConnectionPool]", BlockingConnectionPool.from_url)  # pyright: ignore[reportUnknownMemberType]
    try:
        pool = make_pool(url, max_connections=patience.connections, timeout=patience.total_s, **options)
        pool.make_connection()  # reads the options of the URL, and connects nobody
    except (ValueError, TypeError) as error:
        raise ConfigurationError(f"no connection can be made of redis_url: {error}", field="redis_url",
                                 value=redact_text(url.partition("?")[0]),
                                 hint="redis://HOST:PORT/DATABASE, with options of redis only") from None  # fmt: skip
    return Redis.from_pool(pool)


def _no_introduction() -> dict[str, None]:
    """Without CLIENT SETINFO, which Redis 7.0 does not know; older releases of redis have two names for that."""
    known = signature(cast("Callable[..., None]", AbstractConnection.__init__)).parameters  # pyright: ignore[reportUnknownMemberType]
    return {"driver_info": None} if "driver_info" in known else {"lib_name": None, "lib_version": None}


class Link:
    """Runs scripts on one server, on its clock or on the one that a test moves by hand."""

    def __init__(self, url: str, password: str | None, patience: Patience, clock: Clock | None) -> None:
        self.client = open_client(url, password, patience)
        # Apart from the calls, so that a burst of them never keeps the listener from hearing that they are done.
        self.listening = open_client(url, password, replace(patience, connections=1))
        self.patience = patience
        self._clock = clock
        self._backoff = EqualJitterBackoff(cap=patience.longest_pause_s, base=patience.first_pause_s)
        self._away = False

    async def run(
        self,
        name: str,
        keys: Mapping[str, str],
        args: Mapping[str, Value],
        *,
        items: Sequence[Value] = (),
        more_keys: Sequence[str] = (),
    ) -> list[Any]:
        """The script's reply: ``OK`` and what it found, or its refusal."""
        script = scripts()[name]
        named = [keys[kind] for kind in script.keys] + list(more_keys)
        if len(args) + 2 != len(script.arguments):
            raise Internal(f"{name} takes other arguments", field="args", value=sorted(args), limit=script.arguments)

        async def attempt(number: int) -> list[Any]:
            given = {**args, "now_ms": self._now_ms(), "attempt": number}
            return await self._evaluate(script, named, [*(given[each] for each in script.arguments), *items])

        return await self.insist(attempt)

    async def insist(self, attempt: Callable[[int], Awaitable[T]]) -> T:
        """What the first attempt that gets through returns; `Unavailable` when the patience ends."""
        failed: Exception | None = None
        try:
            async with asyncio.timeout(self.patience.total_s) as limit:
                asked_before = _cancellations()
                for number in count(1):
                    try:
                        result = await attempt(number)
                    except (exceptions.RedisError, OSError) as error:
                        failed = error
                        if not _passes(error) or limit.expired():  # its one cancellation may have been swallowed on the way
                            raise
                        self._tell_away(error)
                        await asyncio.sleep(self._backoff.compute(number))
                    else:
                        self._tell_back()
                        if _cancellations() > asked_before and not limit.expired():
                            raise asyncio.CancelledError  # it came together with the answer, and redis swallowed it
                        return result
        except TimeoutError as late:
            raise _in_our_words(failed or late) from late
        except (exceptions.RedisError, OSError) as error:
            raise _in_our_words(error) from error
        raise AssertionError("numbers do not end")

    async def close(self) -> None:
        await self.client.aclose()
        await self.listening.aclose()

    def _tell_away(self, error: Exception) -> None:
        """Once for each time that the server is away, however many calls wait for it."""
        if not self._away:
            self._away = True
            log.warning("the queue's server does not answer; trying again", reason=redact_text(str(error)))

    def _tell_back(self) -> None:
        if self._away:
            self._away = False
            log.info("the queue's server answers again")

    def _now_ms(self) -> Value:
        return "" if self._clock is None else int(self._clock() * 1000)

    async def _evaluate(self, script: LuaScript, keys: Sequence[str], arguments: Sequence[Value]) -> list[Any]:
        execute = cast("Callable[..., Awaitable[list[Any]]]", self.client.execute_command)  # pyright: ignore[reportUnknownMemberType]
        try:
            return await execute("EVALSHA", script.sha1, len(keys), *keys, *arguments)
        except exceptions.NoScriptError:  # a server that was restarted, or never saw it
            return await execute("EVAL", script.text, len(keys), *keys, *arguments)


def _cancellations() -> int:
    """How often the running task was asked to end."""
    task = asyncio.current_task()
    return task.cancelling() if task else 0


def _passes(error: Exception) -> bool:
    """True for what may be gone at the next attempt."""
    if isinstance(error, exceptions.AuthenticationError | exceptions.AuthorizationError):
        return False
    if isinstance(error, exceptions.ConnectionError | exceptions.TimeoutError | OSError):
        return True
    return isinstance(error, exceptions.ResponseError) and _is_passing(error)


def _is_passing(error: exceptions.ResponseError) -> bool:
    """Some of these have classes of their own that no longer carry the word."""
    known = exceptions.ReadOnlyError | exceptions.ClusterDownError | exceptions.TryAgainError
    return isinstance(error, known) or str(error).startswith(PASSING)


def _refused(said: str) -> PreceptorError:
    """Keys that somebody else wrote are not our defect."""
    if any(sign in said for sign in BROKEN_VALUES):
        return Corrupt("what the queue's server holds under these keys cannot be read", field="keys", value=said)
    return Internal(f"the queue's server refused a script: {said}")


def _in_our_words(error: Exception) -> PreceptorError:
    said = redact_text(str(error))
    match error:
        case exceptions.AuthenticationError():
            return Unauthenticated(f"the queue's server refuses the password: {said}", hint="set redis_password")
        case exceptions.ResponseError() if isinstance(error, _NOT_ALLOWED) or any(sign in said for sign in ACL_IN_SCRIPT):
            return PermissionDenied(
                f"the queue's server does not allow this: {said}", hint="see docs/redis.md for the ACL it needs"
            )
        case exceptions.OutOfMemoryError():
            return Exhausted(
                "the queue's server is out of memory",
                hint="let learners read their results, or raise maxmemory",
                retry_after_s=1.0,
            )
        case exceptions.ResponseError() if not _is_passing(error):
            return _refused(said)
        case exceptions.RedisError() | OSError():
            return Unavailable(f"the queue's server does not answer: {said or type(error).__name__}", hint="preceptor doctor")
        case _:
            return Internal(said)
