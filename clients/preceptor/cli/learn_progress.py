"""What a person sees of a run: a line that lives on a terminal, one JSON object a line elsewhere."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from preceptor.learner.events import Event, Watch

if TYPE_CHECKING:
    from rich.table import Table


BAR_CHARS = 24


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
        self._troubles: list[str] = []
        self._first_step = 0
        self._began_s = time.monotonic()
        self._controls: dict[str, int] = {}

    def take(self, event: Event) -> None:
        """Remember what an event says."""
        match event["event"]:
            case "started":
                self._run, self._steps, self._step = event["run"], event["steps"], event["step"]
                self._first_step, self._began_s = event["step"], time.monotonic()
            case "evaluation":
                self._accuracy = event["accuracy"]
                self._last = f"{event['correct']} of {event['asked']} right at step {event['step']}"
            case "step":
                self._step, self._newest = event["step"], event
            case "alarm":
                self._troubles.append(f"step {event['step']}: {event['sentence']}")
            case "skipped":
                self._troubles.append(f"step {event['step']}: a rollout was skipped, {event['code']}: {event['message']}")
            case "control":
                self._controls[event["run"]] = event["step"]
            case _:
                self._last = "done"

    def table(self) -> Table:
        """One row a fact."""
        from rich.table import Table
        from rich.text import Text

        table = Table(show_header=False, box=None, pad_edge=False)
        for name, value in self.facts().items():
            table.add_row(Text(name, "bold"), Text(value))  # Text: what a service said is no markup
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
        idle: dict[str, float] = new.get("idle_seconds", {})
        waited = "  ".join(f"{lane} {took_s:.2f} s" for lane, took_s in idle.items())
        ages: dict[str, float] = new.get("ages", {})
        return {
            "run": f"{self._run}  step {self._step} of {self._steps}" if self._run else "starting",
            "progress": self._progress(),
            "reverse KL": f"{_told(new.get('reverse_kl'))}  {losses}",
            "held-out accuracy": _told(self._accuracy, ".1%") + (f"  ({self._last})" if self._last else ""),
            "speed": f"{drawn} tokens/s drawn  {scored} rows/s scored",
            "queue": f"{depth}  weights of step {new.get('weight_step', '-')}",
            "bottleneck": f"{new.get('bottleneck', '-')}  {spent}",
            "waiting for others": waited or "-",
            **({"age": f"{ages['mean']:.1f} versions on average, {ages['max']} at most"} if ages.get("max") else {}),
            **({"trouble": f"{self._troubles[-1]}  ({len(self._troubles)} in all)"} if self._troubles else {}),
            **({"now, its controls": beside} if beside else {}),
        }

    def _progress(self) -> str:
        """A bar, and how long the rest takes at the pace of this start."""
        done = self._step - self._first_step
        filled = BAR_CHARS * self._step // self._steps if self._steps else 0
        bar = "━" * filled + "╌" * (BAR_CHARS - filled)
        left_s = (time.monotonic() - self._began_s) / done * (self._steps - self._step) if done else None
        ahead = "" if left_s is None or self._step >= self._steps else f"  {_duration(left_s)} to go"
        return f"{bar}{ahead}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def _told(value: Any, how: str = ".4f") -> str:
    return "-" if value is None else format(value, how)
