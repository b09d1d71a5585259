"""Tables of recipes on the bundled pair: runs inline, one after the other, with one thread, and a page that is made of them.

Stopped and called again a table goes on where it was: what is done is read from its folder. The page there is written after
each run and says how far the table has come, and which commits the runs are of.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.results import commit
from preceptor.compare import HEADER, Comparison, Outcome, compare, entries_of, markdown, outcome_of, rows_of
from preceptor.config import ClientSettings
from preceptor.demo.pair import TEACHER_NAME, Pair
from preceptor.learner import Patiences
from preceptor.learner.inline import in_this_process

ROOT = Path(__file__).parents[1]
COMMITS = "commits.txt"


class Enough(Exception):
    """The time that was given is over."""


@dataclass(frozen=True, slots=True)
class PairTable:
    """What is run and where. `text` is the page around the table, `facts` what it says beside what every page does; `services`
    are further settings of the inline services."""

    folder: Path
    asked: Comparison
    text: str
    pages: Sequence[Path]
    header: Sequence[str] = HEADER
    rows: Callable[[Sequence[Outcome]], Sequence[Sequence[str]]] = rows_of
    facts: Callable[[Sequence[Outcome]], Mapping[str, object]] = lambda _: {}
    services: Mapping[str, str] = field(default_factory=dict[str, str])

    def read(self) -> list[Outcome]:
        """What is done so far."""
        entries = list(entries_of(self.asked))
        found = [outcome for entry in entries if (outcome := outcome_of(entry, self.folder)) is not None]
        self.write(found, len(entries))
        return found

    async def measure(self, pair: Pair, teachers_file: Path, for_s: float) -> list[Outcome]:
        """Runs what is not done yet, for so long."""
        _remember(commit(), self.folder)
        environ = {**environment(pair, teachers_file), **self.services}
        settings = ClientSettings(writers=f"{TEACHER_NAME}={pair.teacher}")
        until_s = time.monotonic() + for_s
        last: list[Outcome] = []

        def told(found: Sequence[Outcome], total: int) -> None:
            last[:] = found
            self.write(found, total)
            if time.monotonic() > until_s:
                raise Enough

        try:
            return await compare(
                self.asked,
                self.folder,
                lambda: in_this_process(settings, self.folder, environ=environ),
                _progress,
                told,
                Patiences(),
            )
        except Enough:
            return last

    def write(self, found: Sequence[Outcome], total: int) -> None:
        """The page as it stands, and a line about the newest run."""
        for newest in found[-1:]:  # none where nothing is done yet
            print(f"{len(found)} of {total}: {newest.entry.name} {newest.failure or format(newest.after, '.1%')}", flush=True)
        for page in (self.folder / "page.md", *self.pages):
            page.write_text(self._page(found, total), encoding="utf-8")

    def _page(self, found: Sequence[Outcome], total: int) -> str:
        return self.text.format(
            seeds=self.asked.seeds,
            controls=self.asked.control_seeds,
            overrides="\n".join(self.asked.overrides),
            state="complete" if len(found) == total else f"partial: {len(found)} of {total} runs",
            when=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            commits=", ".join(_remembered(self.folder)),
            machine=f"{os.cpu_count()} cores, {platform.machine()}, CPU, one thread",
            table=markdown(self.header, self.rows(found)),
            **self.facts(found),
        )


def environment(pair: Pair, teachers_file: Path) -> dict[str, str]:
    """What the inline services are told; nothing else of the caller's settings."""
    return {
        "PRECEPTOR_TEACHER_TEACHERS_FILE": str(teachers_file),
        "PRECEPTOR_ROLLOUT_MODEL": pair.student_model,
        "PRECEPTOR_STUDENT_MODEL": pair.student_model,
        "PRECEPTOR_STUDENT_TEACHER_HEADS": str(pair.teacher),
    }


def arguments(description: str | None, folder: Path, *, seeds: int, control_seeds: int) -> argparse.Namespace:
    """Of the command line of a table; its folder is there."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--seeds", type=int, default=seeds)
    parser.add_argument("--control-seeds", type=int, default=control_seeds)
    parser.add_argument("--folder", type=Path, default=folder)
    parser.add_argument("--page", type=Path, action="append", default=[], help="where the page is written beside the folder")
    parser.add_argument("--read", action="store_true", help="write the page from the runs that are done")
    parser.add_argument("--for-s", type=float, default=float("inf"), help="end with the first run that is over after so long")
    parser.add_argument("overrides", nargs="*", help="key=value for every recipe, such as schedule.steps=5")
    given = parser.parse_args()
    given.folder = given.folder.resolve()
    given.folder.mkdir(parents=True, exist_ok=True)
    return given


def _remember(newest: str, folder: Path) -> None:
    """Resumed runs may be of several commits; the page names all of them."""
    known = _remembered(folder)
    (folder / COMMITS).write_text("\n".join(dict.fromkeys((*known, newest))), encoding="utf-8")


def _remembered(folder: Path) -> list[str]:
    file = folder / COMMITS
    return file.read_text(encoding="utf-8").split() if file.exists() else []


def _progress(_: object) -> None:
    """Each run's events are in its folder."""
