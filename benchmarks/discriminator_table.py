"""`make discriminator-table`: `gad` where the rollouts of a group differ; the page docs/discriminator-table.md.

Runs are in `runs/discriminator/`; `benchmarks/pair_table.py` says how they are made. The reader of the self-teaching table stands
in the student's place.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from benchmarks.black_box_table import COLUMNS, OVERRIDES, SPENT, measure, rows
from benchmarks.pair_table import ROOT, PairTable, arguments
from benchmarks.self_teaching_table import ReaderPair
from preceptor.compare import HEADER, Comparison, markdown

RECIPES = ("grpo", "gad")
SEEDS = 3


def asked_for(seeds: int, control_seeds: int, overrides: Sequence[str] = ()) -> Comparison:
    """The table."""
    return Comparison([ROOT / "recipes" / f"{name}.yaml" for name in RECIPES], seeds, control_seeds, (*OVERRIDES, *overrides))


TEXT = """# What a discriminator teaches

Written by `make discriminator-table`; not by hand. Engine: hf, inline. State: **{state}**, {when}; runs made at commit {commits};
{machine}.

From [the bundled pair](black-box-table.md) `gad` has little to learn: its student draws nearly the same text eight times, and so
there is little to compare. Here the *reader* stands in the student's place, and is what the discriminator starts from
([how it is made](../examples/tiny/README.md#the-reader)): as weak on bare sums, but able to add them, so that rollouts of a
group differ in more than noise. This table was made after the other had shown that, and `gad` is here for it alone.

Accuracy is exact match of greedy answers to the first 256 held-out sums; ± is one standard error over the seeds of the draws
({seeds} of them; one seed has none; the reader was trained once, and prompts come in the same order). Differences against the
first row, the reward of an exact match, are between runs of one seed. The rule is the black-box table's: the files of `recipes/`
as they are, with

```text
{overrides}
```

"scores permuted" ({controls} seeds of each) deals the rewards to other rollouts of the same batch; the discriminator still
learns from every rollout as it is. The first ten steps of `gad` are the discriminator's alone. Calls, tokens and cost are those
of the teacher's text, one answer a prompt, at a made-up price. Seconds are those in which a learner was at work, on a machine
that was busy with other things: they are not a benchmark. This is a report, not a bar.

{table}
"""


def main() -> None:
    given = arguments(__doc__, ROOT / "runs" / "discriminator", seeds=SEEDS, control_seeds=SEEDS)
    asked = asked_for(given.seeds, given.control_seeds, given.overrides)
    header = (*(HEADER[place] for place in COLUMNS), *SPENT)
    table = PairTable(given.folder, asked, TEXT, given.page, header, rows)
    pair = ReaderPair.at(ROOT / "examples" / "tiny")
    found = table.read() if given.read else asyncio.run(measure(table, pair, given.for_s))
    print(markdown(header, rows(found)))


if __name__ == "__main__":
    main()
