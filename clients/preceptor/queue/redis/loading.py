"""The Lua scripts, by name. A new one is a file in `lua/` whose head says which keys and arguments it takes.

    -- keys: task leases            kinds of keys (`preceptor.queue.keys`), in order; the script finds them as K.task, K.leases
    -- derives: blob               kinds that it builds from those or that follow them; always of the same slot
    -- args: flow task_id fence     arguments, in order; the script finds them as A.flow, A.task_id, A.fence
    -- list: start stop             what each item of the list after the arguments consists of

The `#!lua` line makes a server check a script before it runs: without `allow-oom` a server whose memory is full refuses all of
it, and in cluster mode a key of another slot is an error. What a full server must still do says `allow-oom`: read and delete
results, keep or end what is leased.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType

FOLDER = files(__package__ or "preceptor.queue.redis") / "lua"
COMMON = "common"
ALWAYS = ("now_ms", "attempt")  # arguments of every script


@dataclass(frozen=True, slots=True)
class LuaScript:
    """One script as it is sent."""

    name: str
    keys: tuple[str, ...]
    derives: tuple[str, ...]
    arguments: tuple[str, ...]
    text: str
    sha1: str

    @property
    def kinds(self) -> frozenset[str]:
        """The kinds of keys that it touches."""
        return frozenset(self.keys + self.derives)


@cache
def scripts() -> MappingProxyType[str, LuaScript]:
    """All of them, by name."""
    names = sorted(path.name.removesuffix(".lua") for path in FOLDER.iterdir() if path.name.endswith(".lua"))
    return MappingProxyType({name: _load(name) for name in names if name != COMMON})


def _load(name: str) -> LuaScript:
    shebang, _, body = _read(name).partition("\n")
    keys, derives, arguments = (_head(body, part) for part in ("keys", "derives", "args"))
    arguments = (*ALWAYS, *arguments)
    preamble = "\n".join(
        (
            _table("K", "KEYS", keys),
            _table("A", "ARGV", arguments),
            f"local REST, NAMED_KEYS = {len(arguments)}, {len(keys)}",
        )
    )
    text = "\n".join((shebang, preamble, _read(COMMON), body))
    sha1 = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()  # the name that EVALSHA knows a script by
    return LuaScript(name, keys, derives, arguments, text, sha1)


def _read(name: str) -> str:
    return (FOLDER / f"{name}.lua").read_text(encoding="utf-8")


def _head(body: str, part: str) -> tuple[str, ...]:
    return tuple(" ".join(re.findall(rf"^-- {part}:(.*)$", body, re.MULTILINE)).split())


def _table(name: str, source: str, fields: tuple[str, ...]) -> str:
    inside = ", ".join(f"{field} = {source}[{index}]" for index, field in enumerate(fields, 1))
    return f"local {name} = {{ {inside} }}"
