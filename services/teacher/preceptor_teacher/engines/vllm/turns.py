"""vLLM holds one set of whole weights: those of another version are read in their place, in between batches.

What was put away is read again from its folder, which has to be as it was when its digest was checked.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from preceptor.errors import Corrupt, VersionGone
from preceptor_teacher.engines.vllm.core import ScoringCore

Head = tuple[int, bytes]
"""Rows and digest."""

log = logging.getLogger("preceptor.engine")


@dataclass(frozen=True, slots=True)
class Stamp:
    """What a file shows of itself without being read."""

    name: str
    size_bytes: int
    changed_ns: int
    inode: int


@dataclass(frozen=True, slots=True)
class Whole:
    """Whole weights in a folder, and its files as they were when somebody checked their digests."""

    folder: Path
    files: tuple[Stamp, ...]

    @classmethod
    def of(cls, folder: Path) -> Whole:
        """The weights of a folder that was checked a moment ago."""
        return cls(folder, _stamps(folder))

    def check(self) -> None:
        """Refuses files that are not those which were checked."""
        now = _stamps(self.folder)
        if not now:
            raise VersionGone("the files of this version are no longer there", field="version", value=self.folder.name)
        if now != self.files:
            changed = sorted({stamp.name for stamp in set(now) ^ set(self.files)})
            raise Corrupt(
                "the files of a version have changed since their digests were checked",
                field="version",
                value=changed[0],
                limit="immutable files",
                hint="drop the version and publish it again; weights of the operator's: restart the teacher",
            )


def _stamps(folder: Path) -> tuple[Stamp, ...]:
    stats = {path.name: path.stat() for path in sorted(folder.glob("*.safetensors"))}
    return tuple(Stamp(name, stat.st_size, stat.st_mtime_ns, stat.st_ino) for name, stat in stats.items())


class Turns:
    """Whose turn it is in one core. `end_sessions` ends what vLLM keeps open between batches."""

    def __init__(self, core: ScoringCore, served: Whole, tokenizer_size: int, end_sessions: Callable[[], None]) -> None:
        self._core, self._tokenizer_size, self._end_sessions = core, tokenizer_size, end_sessions
        self._held: Whole | None = served

    def take(self, weights: Whole) -> None:
        """Makes vLLM hold these, with nothing left of others."""
        if weights == self._held:
            return
        weights.check()
        began = time.perf_counter()
        self._end_sessions()
        self._held = None
        self._core.reload(weights.folder)
        self.head()
        self._held = weights
        log.info("weights read", extra={"folder": weights.folder.name, "seconds": round(time.perf_counter() - began, 3)})

    def head(self) -> Head:
        """Of the weights that are there; the readout applies it from now on."""
        return self._core.on_workers("preceptor_take_head", self._tokenizer_size)
