"""What a tracker is, and which figures of an event it gets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

Event = Mapping[str, Any]

ENTIRE = ("step", "event", "samples")
"""Fields that are no figure of a step."""


@dataclass(frozen=True, slots=True)
class Run:
    """What a tracker is told at the start. The folder is the run's own."""

    name: str
    folder: Path
    recipe: Mapping[str, Any]

    @property
    def project(self) -> str:
        """Runs of one recipe stand together."""
        return str(self.recipe["name"])


class Tracker(Protocol):
    """Gets figures by name at a step, any number of times; the last one of a name and step counts."""

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Figures of a step."""
        ...

    def close(self) -> None:
        """Everything has been logged."""
        ...


def scalars_of(event: Event) -> dict[str, float]:
    """The numbers of a `step` or `evaluation` event, by path: `loss`, `seconds/train`, `metrics/topk_overlap`."""
    if event["event"] not in ("step", "evaluation"):
        return {}
    prefix = "evaluation/" if event["event"] == "evaluation" else ""
    return {prefix + name: value for name, value in _numbers(event, "") if name not in ENTIRE}


def _numbers(value: object, path: str) -> Iterator[tuple[str, float]]:
    if isinstance(value, Mapping):
        for name, one in cast(Mapping[str, object], value).items():
            yield from _numbers(one, f"{path}/{name}" if path else name)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield path, float(value)
