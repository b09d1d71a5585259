"""What a person sees of a run: a line that lives on a terminal, one JSON object a line elsewhere."""

from __future__ import annotations

import json
import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from preceptor.learner.events import Event, Watch

if TYPE_CHECKING:
    from rich.table import Table


@contextmanager
def watching() -> Generator[Watch]:
    """How this process shows events: live on a terminal, as they are elsewhere."""
    if not sys.stdout.isatty():
        yield print_event
        return
    from rich.console import Console  # only a terminal pays for rich
    from rich.live import Live

    board = Board()
    with Live(board.table(), console=Console(), refresh_per_second=4, transient=False) as live:

        def show(event: Event) -> None:
            board.take(event)
            live.update(board.table(), refresh=True)

        yield show


def print_event(event: Event) -> None:
    """One line on stdout, at once."""
    print(json.dumps(event, ensure_ascii=False), flush=True)


class Board:
    """The newest numbers of a run."""

    def __init__(self) -> None:
        self._run = self._last = ""
        self._steps = self._step = 0
        self._accuracy: float | None = None
        self._newest: Event = {}
        self._controls: dict[str, int] = {}

    def take(self, event: Event) -> None:
        """Remember what an event says."""
        match event["event"]:
            case "started":
                self._run, self._steps, self._step = event["run"], event["steps"], event["step"]
            case "evaluation":
                self._accuracy = event["accuracy"]
                self._last = f"{event['correct']} of {event['asked']} right at step {event['step']}"
            case "step":
                self._step, self._newest = event["step"], event
            case "control":
                self._controls[event["run"]] = event["step"]
            case _:
                self._last = "done"

    def table(self) -> Table:
        """One row a fact."""
        from rich.table import Table

        table = Table(show_header=False, box=None, pad_edge=False)
        for name, value in self.facts().items():
            table.add_row(f"[bold]{name}[/]", value)
        return table

    def facts(self) -> dict[str, str]:
        """Name -> text."""
        new = self._newest
        seconds: dict[str, float] = new.get("seconds", {})
        spent = "  ".join(f"{side} {took_s:.2f} s" for side, took_s in seconds.items())
        losses = f"loss {_told(new.get('loss'))}  grad norm {_told(new.get('grad_norm'))}"
        drawn, scored = _told(new.get("generated_tokens_per_s"), ".0f"), _told(new.get("scored_rows_per_s"), ".0f")
        depth = f"{_told(new.get('queue_depth'), 'd')} tasks open when the last rollout closed"
        beside = ", ".join(f"{label} {step} of {self._steps}" for label, step in self._controls.items())
        return {
            "run": f"{self._run}  step {self._step} of {self._steps}" if self._run else "starting",
            "reverse KL": f"{_told(new.get('reverse_kl'))}  {losses}",
            "held-out accuracy": _told(self._accuracy, ".1%") + (f"  ({self._last})" if self._last else ""),
            "speed": f"{drawn} tokens/s drawn  {scored} rows/s scored",
            "queue": f"{depth}  weights of step {new.get('weight_step', '-')}",
            "bottleneck": f"{new.get('bottleneck', '-')}  {spent}",
            **({"now, its controls": beside} if beside else {}),
        }


def _told(value: Any, how: str = ".4f") -> str:
    return "-" if value is None else format(value, how)
