"""What an engine is: synchronous code around one model, alone in its process.

To add one: a class with the methods of `Engine`, a factory that makes it from a dict of options, and one line in
`registry.ENGINES`. `plan_item` does the checks that are the same for all; the contract suite in tests/contract says what
the answers must be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol, runtime_checkable

from preceptor.errors import PreceptorError
from preceptor.types import ModelInfo, ModelRef, Scored, ScoreItem

Outcome = Scored | PreceptorError
"""What became of one item."""

Method = Callable[[bytes], Iterator[bytes]]
"""A call from outside the process: request bytes in, a stream of reply bytes out; a plain call yields once.

The process advances open streams in turns, one `next` each, and closes the stream of a caller that went away."""


class Engine(Protocol):
    """Scores sequences under one or more versions of a model. Called by one thread, one call at a time."""

    def describe(self) -> tuple[ModelInfo, ...]:
        """One entry for each version that can be scored, the newest first; cheap, and true until the next load or drop."""
        ...

    def score(self, items: Sequence[ScoreItem], version: ModelRef | None = None) -> list[Outcome]:
        """One outcome for each item, in order; None scores under the newest version, an unknown one is `VersionGone`.

        A bad item fails alone. Only what breaks the whole batch is raised.
        """
        ...

    def load_version(self, version: ModelRef, folder: str) -> None:
        """Makes a version available, as the newest. `Unsupported` where the engine holds one version only."""
        ...

    def drop_version(self, version: ModelRef) -> None:
        """Forgets a version; dropping an unknown one changes nothing, dropping the last one is refused."""
        ...

    def close(self) -> None:
        """Gives everything back; the process ends after it."""
        ...


@runtime_checkable
class OffersMethods(Protocol):
    """An engine with calls beyond the common ones: growing tasks, generation."""

    def methods(self) -> Mapping[str, Method]:
        """Method name -> what answers it; the names of the common calls are taken."""
        ...
