"""`make learning-table`: the shipped recipes on the bundled pair, over seeds, with controls; the page docs/learning.md.

Everything runs inline, one run after the other, with one thread. Stopped and called again it goes on where it was: done runs are
read from `runs/learning/`. The page in that folder is written after each run and says how far the table has come; `--page` is
where it is written as well, and `--read` writes it from what is done, without another run. `--for-s` ends it with the first run
that is over after so many seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.results import commit
from preceptor.compare import HEADER, Comparison, Outcome, compare, entries_of, markdown, outcome_of, rows_of
from preceptor.config import ClientSettings
from preceptor.demo.pair import STUDENT_NAME, TEACHER_NAME, Pair
from preceptor.demo.provider import CHECKS_NAME
from preceptor.learner import Patiences
from preceptor.learner.inline import in_this_process
from preceptor.recipes import load_recipe

ROOT = Path(__file__).parents[1]
FIRST = ("tiny-reverse-kl", "tiny-sft", "off-policy-kd", "grpo", "tiny-k1", "tiny-forward-kl")
BASE_NAME = "tiny-base"
STEPS, SEEDS, CONTROL_SEEDS = 16, 3, 1
OVERRIDES = (
    f"schedule.steps={STEPS}",
    f"optimizer.learning_rate.steps={STEPS}",
    f"evaluation.every_steps={STEPS}",
    "schedule.deterministic=false",
)
COMMITS = "commits.txt"


class Enough(Exception):
    """The time that was given is over."""


def teachers(pair: Pair) -> dict[str, dict[str, str]]:
    """What recipes may ask here. The student as it starts is where copies start, and the second teacher of some."""
    student = {"folder": str(pair.student)}
    served = {TEACHER_NAME: {"folder": str(pair.teacher)}, STUDENT_NAME: student, BASE_NAME: student}
    return served | {CHECKS_NAME: {"engine": "check"}}


def recipes(pair: Pair) -> list[Path]:
    """Those named first in their order, then whatever else is shipped for teachers that are here."""
    found = {path.stem: path for path in sorted((ROOT / "recipes").glob("*.yaml"))}
    inside = {name: path for name, path in found.items() if _models(path) <= teachers(pair).keys()}
    return [inside.pop(name) for name in FIRST] + list(inside.values())


def _models(recipe: Path) -> set[str]:
    return {teacher.model for teacher in load_recipe(recipe).teachers.values()}


def asked_for(pair: Pair, seeds: int, control_seeds: int, overrides: Sequence[str] = ()) -> Comparison:
    """The table."""
    files = recipes(pair)
    return Comparison(files, seeds, control_seeds, (*OVERRIDES, *overrides), {file: to_the_end(file) for file in files})


def to_the_end(recipe: Path) -> list[str]:
    """Weights that a file publishes once, when its run ends, still are."""
    schedule = load_recipe(recipe).schedule
    return [f"schedule.publish_every_steps={STEPS}"] if schedule.publish_every_steps == schedule.steps else []


def environment(pair: Pair, folder: Path) -> dict[str, str]:
    """What the inline services are told; nothing else of the caller's settings."""
    file = folder / "teachers.yaml"
    file.write_text(json.dumps({"teachers": teachers(pair)}), encoding="utf-8")
    return {
        "PRECEPTOR_TEACHER_TEACHERS_FILE": str(file),
        "PRECEPTOR_ROLLOUT_MODEL": pair.student_model,
        "PRECEPTOR_STUDENT_MODEL": pair.student_model,
        "PRECEPTOR_STUDENT_TEACHER_HEADS": str(pair.teacher),
    }


async def measure(pair: Pair, folder: Path, asked: Comparison, pages: Sequence[Path], for_s: float) -> list[Outcome]:
    """Runs what is not done yet, for so long."""
    _remember(commit(), folder)
    environ = environment(pair, folder)
    settings = ClientSettings(writers=f"{TEACHER_NAME}={pair.teacher}")
    until_s = time.monotonic() + for_s
    last: list[Outcome] = []

    def told(found: Sequence[Outcome], total: int) -> None:
        last[:] = found
        _write(page_of(asked, found, total, folder), pages)
        if time.monotonic() > until_s:
            raise Enough

    try:
        return await compare(
            asked, folder, lambda: in_this_process(settings, folder, environ=environ), _progress, told, Patiences()
        )
    except Enough:
        return last


def read(folder: Path, asked: Comparison, pages: Sequence[Path]) -> list[Outcome]:
    """What is done so far."""
    entries = list(entries_of(asked))
    found = [outcome for entry in entries if (outcome := outcome_of(entry, folder)) is not None]
    _write(page_of(asked, found, len(entries), folder), pages)
    return found


def page_of(asked: Comparison, found: Sequence[Outcome], total: int, folder: Path) -> str:
    """The table as it stands."""
    print(f"{len(found)} of {total}: {found[-1].entry.name} {found[-1].failure or format(found[-1].after, '.1%')}", flush=True)
    return TEXT.format(
        seeds=asked.seeds,
        controls=asked.control_seeds,
        overrides="\n".join(asked.overrides),
        steps=STEPS,
        state="complete" if len(found) == total else f"partial: {len(found)} of {total} runs",
        when=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        commits=", ".join(_remembered(folder)),
        machine=f"{os.cpu_count()} cores, {platform.machine()}, CPU, one thread",
        table=markdown(HEADER, rows_of(found)),
    )


def _write(text: str, pages: Sequence[Path]) -> None:
    for page in pages:
        page.write_text(text, encoding="utf-8")


TEXT = """# What the shipped recipes learn on the bundled pair

Written by `make learning-table`; not by hand. Engine: hf, inline. State: **{state}**, {when}; runs made at commit {commits};
{machine}.

Three-digit addition (`examples/tiny/README.md`): the student starts from sums it mostly gets wrong. Accuracy is exact match
of greedy answers to the first 256 held-out sums; ± is one standard error over the seeds of the draws ({seeds} of them; one
seed has none; the pair itself was trained once, and prompts come in the same order). Differences against the first row are
between runs of one seed. Seconds are those in which a learner was at work, on a machine that was busy with other things: they
are not a benchmark.

Every recipe in `recipes/` is here whose teachers are models with scores, or checks; those whose judge writes a verdict are
not. One rule puts all of them on the pair, and none was tuned for it: the file as it is, with

```text
{overrides}
```

so each run is shorter than its file says, the learning rate falls to zero within it, and ramps of other knobs keep their own
lengths (`lightning`, which publishes its weights once, at the end, does so after {steps} steps). Where a recipe names
`tiny-base` (`exopd`, `confidence-router`) or a copy of the student (`opsd`, `opsdc`, `opcd`, `sdft`, `sdpo`), the student as
it starts is served under that name. A short run says how fast a recipe learns from here as much as how far: a self-teacher
that only sees what the student knows, or a reward that is rarely given, has little to give in so few steps.

"scores permuted" ({controls} seed of each) deals the teacher's rows or rewards to other places of the same batch: whatever
such a run learns, it does not learn from the teacher's scores. What a teacher does while rollouts are drawn stays: it still
accepts or blends tokens in `tiny-skd` and `tiny-trust-region`, and still writes the texts of `gkd` and `off-policy-kd`.
`tiny-sft` and `off-policy-kd` are the off-policy baselines, on text that the teacher wrote; `grpo` is the one that has no
teacher but checks. `tiny-sft` reads no scores, so it has no control.

This is a report, not a bar.

{table}
"""


def _remember(newest: str, folder: Path) -> None:
    """Resumed runs may be of several commits; the page names all of them."""
    known = _remembered(folder)
    (folder / COMMITS).write_text("\n".join(dict.fromkeys((*known, newest))), encoding="utf-8")


def _remembered(folder: Path) -> list[str]:
    file = folder / COMMITS
    return file.read_text(encoding="utf-8").split() if file.exists() else []


def _progress(_: object) -> None:
    """Each run's events are in its folder."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--control-seeds", type=int, default=CONTROL_SEEDS)
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "learning")
    parser.add_argument("--page", type=Path, action="append", default=[], help="where the page is written beside the folder")
    parser.add_argument("--read", action="store_true", help="write the page from the runs that are done")
    parser.add_argument("--for-s", type=float, default=float("inf"), help="end with the first run that is over after so long")
    parser.add_argument("overrides", nargs="*", help="key=value for every recipe, such as schedule.steps=5")
    given = parser.parse_args()
    folder = given.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    pair = Pair.at(ROOT / "examples" / "tiny")
    asked = asked_for(pair, given.seeds, given.control_seeds, given.overrides)
    pages = [folder / "learning.md", *given.page]
    found = read(folder, asked, pages) if given.read else asyncio.run(measure(pair, folder, asked, pages, given.for_s))
    print(markdown(HEADER, rows_of(found)))


if __name__ == "__main__":
    main()
