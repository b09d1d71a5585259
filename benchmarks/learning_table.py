"""`make learning-table`: every shipped recipe on the bundled pair over seeds, with controls; the page docs/learning.md.

Everything runs inline, one run after the other, with one thread. Stopped and called again it goes on where it was: done runs are
read from `runs/learning/`. The page in that folder is written after each run and says how far the table has come; `--page` is
where it is written as well, and `--read` writes it from what is done, without another run.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import subprocess
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path

from preceptor.compare import HEADER, Comparison, Outcome, compare, entries_of, markdown, outcome_of, rows_of
from preceptor.config import ClientSettings
from preceptor.demo.pair import TEACHER_NAME, Pair
from preceptor.demo.provider import StandInProvider
from preceptor.learner import Patiences
from preceptor.learner.inline import in_this_process
from preceptor.learner.waits import beside
from preceptor.local.supervisor import Supervisor

ROOT = Path(__file__).parents[1]
PREFERRED = ("tiny-reverse-kl", "tiny-sft", "tiny-k1", "tiny-forward-kl", "tiny-verbal")
OVERRIDES = ("schedule.deterministic=false", "evaluation.every_steps=20")


def recipes() -> list[Path]:
    """Those named first in their order, then whatever else is shipped for the pair."""
    found = {path.stem: path for path in sorted((ROOT / "recipes").glob("tiny-*.yaml"))}
    return [found.pop(name) for name in PREFERRED if name in found] + list(found.values())


def environment(pair: Pair, teachers_file: Path) -> dict[str, str]:
    """What the inline services are told; nothing else of the caller's settings."""
    return {
        "PRECEPTOR_TEACHER_MODEL": pair.teacher_model,
        "PRECEPTOR_TEACHER_TEACHERS_FILE": str(teachers_file),
        "PRECEPTOR_ROLLOUT_MODEL": pair.student_model,
        "PRECEPTOR_STUDENT_MODEL": pair.student_model,
    }


async def measure(folder: Path, asked: Comparison, pages: Sequence[Path]) -> list[Outcome]:
    """The judge of black-box recipes is a process of its own, as a provider would be."""
    pair, commit = Pair.at(ROOT / "examples" / "tiny"), _commit()
    provider = StandInProvider(pair.teacher, folder / "provider")
    environ = environment(pair, provider.write_teachers_file())
    settings = ClientSettings(writers=f"{TEACHER_NAME}={pair.teacher}")
    async with AsyncExitStack() as stack:
        supervisor = await stack.enter_async_context(Supervisor(((provider.child,),)))
        work = compare(
            asked,
            folder,
            lambda: in_this_process(settings, folder, environ=environ),
            _progress,
            lambda found, total: _write(page_of(asked, found, total, commit), pages),
            Patiences(),
        )
        return await beside(supervisor.watch(), work)


def read(folder: Path, asked: Comparison, pages: Sequence[Path]) -> list[Outcome]:
    """What is done so far."""
    entries = list(entries_of(asked))
    found = [outcome for entry in entries if (outcome := outcome_of(entry, folder)) is not None]
    _write(page_of(asked, found, len(entries), _commit()), pages)
    return found


def page_of(asked: Comparison, found: Sequence[Outcome], total: int, commit: str) -> str:
    """The table as it stands."""
    print(f"{len(found)} of {total}: {found[-1].entry.name} {found[-1].failure or format(found[-1].after, '.1%')}", flush=True)
    return TEXT.format(
        seeds=asked.seeds,
        state="complete" if len(found) == total else f"partial: {len(found)} of {total} runs",
        when=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        commit=commit,
        machine=f"{os.cpu_count()} cores, {platform.machine()}, CPU, one thread",
        table=markdown(HEADER, rows_of(found)),
    )


def _write(text: str, pages: Sequence[Path]) -> None:
    for page in pages:
        page.write_text(text, encoding="utf-8")


TEXT = """# What the shipped recipes learn on the bundled pair

Written by `make learning-table`; not by hand. Engine: hf, inline. State: **{state}**, {when}, page written at
commit {commit}, {machine}.

Three-digit addition (`examples/tiny/README.md`): the student starts from sums it mostly gets wrong. Accuracy is exact match
of greedy answers to the first 256 held-out sums; ± is one standard error over the seeds of the draws ({seeds} of them at most;
the pair itself was trained once, and prompts come in the same order). "scores permuted" deals the teacher's rows or rewards to
other places of the same batch: whatever such a run learns, it does not learn from the teacher. Differences against the first row
are between runs of one seed. `tiny-sft` is the off-policy baseline on text that the teacher wrote. Seconds are those in which a
learner was at work, on a machine that may have been busy with other things: they are not a benchmark.

A table that was resumed may hold runs of earlier commits. This is a report, not a bar:
recipes' learning rates and lengths are those of their files, and were not tuned for this table.

{table}
"""


def _commit() -> str:
    found = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


def _progress(_: object) -> None:
    """Each run's events are in its folder."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "learning")
    parser.add_argument("--page", type=Path, action="append", default=[], help="where the page is written beside the folder")
    parser.add_argument("--read", action="store_true", help="write the page from the runs that are done")
    parser.add_argument("overrides", nargs="*", help="key=value for every recipe, such as schedule.steps=5")
    given = parser.parse_args()
    folder = given.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    asked = Comparison(recipes(), given.seeds, with_controls=True, overrides=(*OVERRIDES, *given.overrides))
    pages = [folder / "learning.md", *given.page]
    found = read(folder, asked, pages) if given.read else asyncio.run(measure(folder, asked, pages))
    print(markdown(HEADER, rows_of(found)))


if __name__ == "__main__":
    main()
