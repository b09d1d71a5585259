"""A rollout service whose episodes can be ordered to kill: `python -m tests.faults.rollout_process ORDER JSON`.

ORDER is a file that the conductor writes: a point, its how-manieth time from then on, and the process that dies there.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from preceptor.config import RolloutSettings, load
from preceptor_rollout.service import RolloutService
from preceptor_serving.run import run_service


@dataclass(frozen=True)
class Order:
    """One kill."""

    point: str
    hit: int
    pid: int

    def write(self, path: Path) -> None:
        """Whole or not at all: whoever carries it out may look at any time."""
        temporary = path.with_suffix(".new")
        temporary.write_text(json.dumps(asdict(self)), encoding="utf-8")
        temporary.replace(path)


@dataclass
class Executioner:
    """Hooks of the service. What it has carried out is left behind as a file of another name."""

    path: Path
    _order: Order | None = None
    _left: int = field(default=0)

    def reached(self, point: str) -> None:
        order = self._newest()
        if order is None or order.point != point:
            return
        self._left -= 1
        if self._left == 0:
            self.path.replace(done_of(self.path))
            os.kill(order.pid, signal.SIGKILL)

    def _newest(self) -> Order | None:
        try:
            order = Order(**json.loads(self.path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            self._order = None
            return None
        if order != self._order:
            self._order, self._left = order, order.hit
        return order


def done_of(path: Path) -> Path:
    """Where an order lies that was carried out."""
    return path.with_suffix(".done")


def main(path: Path, flags: Mapping[str, object]) -> int:
    settings = load(RolloutSettings, flags=flags, file=None, environ=os.environ).settings
    return run_service(RolloutService(hooks=Executioner(path)), settings)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), json.loads(sys.argv[2])))
