"""What a process under test leaves behind line by line: the points that it reached, and where it was told to die."""

from __future__ import annotations

import os
import signal
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Kill:
    """The nth time that a point is reached; no point means never."""

    point: str = ""
    hit: int = 1


@dataclass
class MarkingHooks:
    """Hooks that write every point down before anything else can happen, and send this process SIGKILL at one of them."""

    path: Path
    kill: Kill
    seen: Counter[str] = field(default_factory=Counter)

    def reached(self, point: str) -> None:
        self.seen[point] += 1
        self.write("reached", point)
        if point == self.kill.point and self.seen[point] == self.kill.hit:
            self.write("died", point)
            os.kill(os.getpid(), signal.SIGKILL)

    def write(self, kind: str, text: str) -> None:
        """One line, whole even if this process is killed next."""
        handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.write(handle, f"{kind}\t{text}\n".encode())
        os.close(handle)


def marks(path: Path) -> Counter[tuple[str, str]]:
    """(kind, text) -> how often; empty before the process has said anything."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return Counter((kind, text) for kind, _, text in (line.partition("\t") for line in lines))
