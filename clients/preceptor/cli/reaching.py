"""How a command at a terminal meets services: at once or with one clear line, never after the long patience of a training run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from preceptor.client.channel import Target
from preceptor.config import ClientSettings
from preceptor.errors import DeadlineExceeded, InvalidArgument, NotFound, Unavailable
from preceptor.logs import configure_logs
from preceptor.types import Capabilities, ModelInfo

T = TypeVar("T")
REACH_S = 5.0


def target_of(settings: ClientSettings, address: str) -> Target:
    """An address under the key, the deadline and the message size of the settings."""
    key = settings.api_key.get_secret_value() if settings.api_key else None
    return Target(address, key, settings.deadline_s, settings.max_message_bytes)


def quiet_logs(settings: ClientSettings) -> None:
    """Nothing but failures on stderr: stdout is the command's own, and retries are no news to a person who waits."""
    configure_logs("cli", log_format=settings.log_format, level="error")


async def reached(what: str, address: str, ask: Callable[[float], Awaitable[T]]) -> T:
    """The reply of a service's first call; `Unavailable` with its address where nobody answers within `REACH_S`."""
    try:
        return await ask(REACH_S)
    except (DeadlineExceeded, Unavailable) as error:
        raise Unavailable(
            f"the {what} service at {address} does not answer: {error.message}",
            field=f"client.{what}",
            value=address,
            hint=f"start it (`preceptor up`, `preceptor serve {what}`), or say where it is: --{what} HOST:PORT",
        ) from error


def only_teacher(infos: Iterable[ModelInfo], able: Callable[[Capabilities], bool], does: str) -> str:
    """The name of the one teacher that is able to; which one is asked where there are several."""
    names = sorted({info.model.name for info in infos if able(info.capabilities)})
    if len(names) == 1:
        return names[0]
    if not names:
        raise NotFound(f"no teacher of this service {does}", field="model", hint="`preceptor teachers` lists what it has")
    listed = ", ".join(names)
    raise InvalidArgument("which teacher?", field="model", value="unset", limit=listed, hint=f"--model NAME, one of {listed}")
