"""Runs a comparison one run after the other, each from where it stopped: done ones are read, broken ones go on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from preceptor.compare.entries import Comparison, Entry, entries_of
from preceptor.compare.outcomes import Outcome, outcome_of
from preceptor.errors import PreceptorError
from preceptor.learner import Learner, Patiences, Ports, RunFolder, Watch

Open = Callable[[], AbstractAsyncContextManager[Ports]]
Told = Callable[[Sequence[Outcome], int], None]
"""Is told of all outcomes so far, and how many there will be."""


async def compare(asked: Comparison, runs: Path, ports: Open, watch: Watch, told: Told, patiences: Patiences) -> list[Outcome]:
    """What became of every run. A run that fails is an outcome that says why; the others go on.

    Plans are made before anything is started, so a mistake in one recipe ends the comparison at once.
    """
    entries = [(entry, entry.plan()) for entry in entries_of(asked)]
    found: list[Outcome] = []
    for entry, plan in entries:
        outcome = outcome_of(entry, runs)
        if outcome is None:
            try:
                async with ports() as opened:
                    folder = RunFolder.of(runs, entry.name)
                    await Learner(plan, opened, folder, resume=True, watch=watch, patiences=patiences).run()
            except PreceptorError as error:
                outcome = Outcome(entry, failure=f"{error.code}: {error.message}".splitlines()[0])
            else:
                outcome = _over(entry, runs)
        found.append(outcome)
        told(found, len(entries))
    return found


def _over(entry: Entry, runs: Path) -> Outcome:
    outcome = outcome_of(entry, runs)
    assert outcome is not None, "a learner that returned has written its summary"
    return outcome
