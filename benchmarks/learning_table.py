"""`make learning-table`: the shipped recipes on the bundled pair, over seeds, with controls; the page docs/learning.md.

Runs are in `runs/learning/`, and `benchmarks/pair_table.py` says how they are made. `--page` is where the page is written as
well, `--read` writes it from what is done, without another run, and `--for-s` ends it with the first run that is over after so
many seconds.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

from benchmarks.pair_table import ROOT, PairTable, arguments
from preceptor.compare import HEADER, Comparison, markdown, rows_of
from preceptor.demo.pair import STUDENT_NAME, TEACHER_NAME, Pair
from preceptor.demo.provider import CHECKS_NAME
from preceptor.recipes import load_recipe

FIRST = ("tiny-reverse-kl", "tiny-sft", "off-policy-kd", "grpo", "tiny-k1", "tiny-forward-kl")
BASE_NAME = "tiny-base"
STEPS, SEEDS, CONTROL_SEEDS = 16, 3, 1
OVERRIDES = (
    f"schedule.steps={STEPS}",
    f"optimizer.learning_rate.steps={STEPS}",
    f"evaluation.every_steps={STEPS}",
    "schedule.deterministic=false",
)


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


def write_teachers_file(pair: Pair, folder: Path) -> Path:
    """Of the teacher service."""
    file = folder / "teachers.yaml"
    file.write_text(json.dumps({"teachers": teachers(pair)}), encoding="utf-8")
    return file


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
it starts is served under that name. A short run says how fast a recipe learns from here as much as how far; a reward that is
rarely given has little to give in so few steps. The pair knows one kind of prompt, so a copy of the student that reads
another one (their views do) has nothing useful to say: those rows show the machinery at work, not what the methods are worth.
[A student that can read views](self-teaching.md) does learn from its copies in them; only `opsdc` is not shown there.

"scores permuted" ({controls} seed of each) deals the teacher's rows or rewards to other places of the same batch: whatever
such a run learns, it does not learn from the teacher's scores. What a teacher does while rollouts are drawn stays: it still
accepts or blends tokens in `tiny-skd` and `tiny-trust-region`, and still writes the texts of `gkd` and `off-policy-kd`.
`tiny-sft` and `off-policy-kd` are the off-policy baselines, on text that the teacher wrote; `grpo` is the one that has no
teacher but checks. `tiny-sft` reads no scores, so it has no control.

This is a report, not a bar.

{table}
"""


def main() -> None:
    given = arguments(__doc__, ROOT / "runs" / "learning", seeds=SEEDS, control_seeds=CONTROL_SEEDS)
    pair = Pair.at(ROOT / "examples" / "tiny")
    asked = asked_for(pair, given.seeds, given.control_seeds, given.overrides)
    table = PairTable(given.folder, asked, TEXT, given.page, facts=lambda _: {"steps": STEPS})
    teachers_file = write_teachers_file(pair, given.folder)
    found = table.read() if given.read else asyncio.run(table.measure(pair, teachers_file, given.for_s))
    print(markdown(HEADER, rows_of(found)))


if __name__ == "__main__":
    main()
