"""`make self-teaching-table`: recipes whose teacher is a copy of the student, with a student that can read their views.

Runs are in `runs/self-teaching/`, the page is docs/self-teaching.md; `benchmarks/pair_table.py` says how they are made. The judge
of `sdpo-critique` is the stand-in provider of the black-box table.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.black_box_table import measure
from benchmarks.learning_table import OVERRIDES
from benchmarks.pair_table import ROOT, PairTable, arguments
from preceptor.compare import HEADER, Comparison, Outcome, markdown, rows_of
from preceptor.demo.pair import Pair

RECIPES = ("grpo", "tiny-sft", "opsd", "sdft", "opcd", "sdpo", "sdpo-critique")
SEEDS = 3


@dataclass(frozen=True, slots=True)
class ReaderPair(Pair):
    """The bundled pair with the reader in the student's place, under the student's name: recipes are run as they are shipped."""

    @property
    def student(self) -> Path:
        return self.folder / "reader"


def asked_for(seeds: int, control_seeds: int, overrides: Sequence[str] = ()) -> Comparison:
    """The table."""
    files = [ROOT / "recipes" / f"{name}.yaml" for name in RECIPES]
    return Comparison(files, seeds, control_seeds, (*OVERRIDES, *overrides))


TEXT = """# What a student teaches itself that can read

Written by `make self-teaching-table`; not by hand. Engine: hf, inline. State: **{state}**, {when}; runs made at commit {commits};
{machine}.

The recipes here have no better teacher than a copy of the student, which reads more than the student does (a *view*): the
answer (`opsd`, `sdft`), a rule (`opcd`), a right response of the group (`sdpo`), a judge's critique (`sdpo-critique`). The
student of the [learning table](learning.md) has never read anything but a bare sum, so its copies have nothing to say there.
Here the *reader* stands in its place ([how it is made](../examples/tiny/README.md#the-reader)): of the student's class and
size, and about as weak as the student when it reads a bare sum; under each of these views it adds nearly all held-out sums right.
What is to be learned is to do without the view what is done with it.

Accuracy is exact match of greedy answers to the first 256 held-out sums, all read bare; ± is one standard error over the seeds
of the draws ({seeds} of them; one seed has none; the reader was trained once, and prompts come in the same order). Differences
against the first row are between runs of one seed. The rule is the learning table's: the files of `recipes/` as they are, with

```text
{overrides}
```

and none was tuned for it. "scores permuted" ({controls} seeds of each) deals the teacher's rows, or rewards, to other places of
the same batch. `grpo` has checks and no teacher, `tiny-sft` reads text that the larger teacher of the pair wrote: no recipe of a
self-teacher has that one. Seconds are those in which a learner was at work, on a machine that was busy with other things: they
are not a benchmark.

What to know of a row before reading it. `grpo`: the reader can add these sums and has the habit not to, so a reward only has to
bring out what is there; of the pair's student, which cannot, see the [learning table](learning.md). `sdpo` scores the
rollouts alone that have a right one beside them in their group. The learning rate of `sdpo-critique` is a tenth of the other
copies'.

What the figures can show: whether a copy which reads a view that helps teaches the student, through every part of the system, and
whether its scores in wrong places do. What they cannot: how much these methods help a real model. The reader was made to
read these very views; how well a real model reads its own is the question that a method stands or falls with. `opsdc` is not
here: its view asks for brevity, and the reader has one way to write.

{table}
"""


def main() -> None:
    given = arguments(__doc__, ROOT / "runs" / "self-teaching", seeds=SEEDS, control_seeds=SEEDS)
    pair = ReaderPair.at(ROOT / "examples" / "tiny")
    asked = asked_for(given.seeds, given.control_seeds, given.overrides)
    table = PairTable(given.folder, asked, TEXT, given.page)
    found: list[Outcome] = table.read() if given.read else asyncio.run(measure(table, pair, given.for_s))
    print(markdown(HEADER, rows_of(found)))


if __name__ == "__main__":
    main()
