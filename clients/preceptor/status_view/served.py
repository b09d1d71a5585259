"""What each teacher service serves, as people and programs read it: a teacher, its versions, and where it is in its life."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any, cast

from preceptor.status_view.board import NOTHING, duration
from preceptor.status_view.fitting import Table, fitted
from preceptor.types import ModelInfo, TeacherStanding

SHORT = 12  # of a digest
ABILITIES = ("entropy", "tail", "hidden", "next", "deterministic", "streaming", "generate", "judge")
SERVED = (
    *("name", "state", "heard", "at", "aliases", "version", "engine"),
    *("vocabulary", "tokens", "top-k", "can", "noise", "tokenizer", "template"),
)
SERVED_NUMBERS = frozenset({"heard", "tokens", "top-k", "noise"})
SERVED_NAMES = ("at", "aliases")
SERVED_ORDER = ("template", "tokenizer", "can", "noise", "top-k", "vocabulary", "tokens", "aliases", "heard", "engine", "version")
SILENT = "no answer"


@dataclass(frozen=True, slots=True)
class Seen:
    """What one address answered. `standings` is empty where it is an older service, or the key may not ask for them."""

    address: str
    infos: tuple[ModelInfo, ...] = ()
    standings: tuple[TeacherStanding, ...] = ()
    silent: str = ""  # why it did not answer

    def standing(self, teacher: str) -> TeacherStanding | None:
        """Of the teacher of that name."""
        return next((one for one in self.standings if one.teacher == teacher), None)

    @property
    def unloaded(self) -> list[TeacherStanding]:
        """Teachers of which nothing but their standing is known so far."""
        described = {info.model.name for info in self.infos}
        return [one for one in self.standings if one.teacher not in described]


def served_table(seen: Sequence[Seen], width: int) -> Table:
    """Everything that is served, in so many columns of a screen."""
    return fitted(Table(SERVED, tuple(served_cells(seen))), width, SERVED_NAMES, SERVED_ORDER)


def served_cells(seen: Sequence[Seen]) -> list[tuple[str, ...]]:
    return [row for one in seen for row in _rows(one)]


def served_values(seen: Seen) -> list[dict[str, Any]]:
    """Each version whole, as plain values with digests in hex, and its teacher's standing."""
    described = [{**_values(info), **_standing_values(seen, info.model.name)} for info in seen.infos]
    return described + [{"model": {"name": one.teacher}, **_standing_values(seen, one.teacher)} for one in seen.unloaded]


def _rows(seen: Seen) -> Iterator[tuple[str, ...]]:
    if seen.silent:
        yield _padded((NOTHING, SILENT, NOTHING, seen.address))
    for info in seen.infos:
        yield (info.model.name, *_standing_cells(seen.standing(info.model.name)), seen.address, *_cells(info))
    for one in seen.unloaded:
        yield _padded((one.teacher, *_standing_cells(one), seen.address))


def _padded(cells: tuple[str, ...]) -> tuple[str, ...]:
    return cells + (NOTHING,) * (len(SERVED) - len(cells))


def _standing_cells(standing: TeacherStanding | None) -> tuple[str, str]:
    if standing is None:
        return NOTHING, NOTHING
    return str(standing.state), NOTHING if standing.heard_s is None else f"{duration(standing.heard_s)} ago"


def _standing_values(seen: Seen, teacher: str) -> dict[str, Any]:
    standing = seen.standing(teacher)
    state, heard_s = (str(standing.state), standing.heard_s) if standing else (None, None)
    return {"address": seen.address, "state": state, "heard_s": heard_s}


def _cells(info: ModelInfo) -> tuple[str, ...]:
    can = info.capabilities
    abilities = [name for name in ABILITIES if getattr(can, name)]
    return (
        ", ".join(info.aliases) or NOTHING,
        _version(info),
        f"{info.engine} {info.dtype}".strip(),
        f"{info.tokenizer_size} of {info.head_rows}" if info.head_rows else NOTHING,
        str(can.max_sequence_tokens or NOTHING),
        str(can.max_topk),
        " ".join([*abilities, *can.graders]) or NOTHING,
        NOTHING if info.noise_floor_nats is None else f"{info.noise_floor_nats:.1e}",
        info.tokenizer_sha256.hex()[:SHORT] or NOTHING,
        info.template_sha256.hex()[:SHORT] or NOTHING,
    )


def _version(info: ModelInfo) -> str:
    """The run and step of weights that a run made, else the start of their digest."""
    made = f"{info.model.run} step {info.model.step} " if info.model.run else ""
    return f"{made}{info.model.manifest_sha256.hex()[:SHORT]}" or NOTHING


def _values(info: ModelInfo) -> dict[str, Any]:
    return {name: _plain(value) for name, value in asdict(info).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in cast(dict[str, Any], value).items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in cast(Sequence[Any], value)]
    if isinstance(value, bytes):
        return value.hex()
    return str(value) if isinstance(value, Enum) else value
