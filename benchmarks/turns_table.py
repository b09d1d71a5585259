"""`make turns-table`: what the bundled student learns over several turns, from a teacher and from a reward; docs/turns-table.md.

Beside each recipe runs its control under every seed: the same with scores, or rewards, of other places of the batch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from benchmarks.learning_table import write_teachers_file
from benchmarks.pair_table import ROOT, PairTable, arguments
from preceptor.compare import HEADER, Comparison, markdown, rows_of
from preceptor.demo.pair import Pair

RECIPES = ("carries", "carries-reward")
SEEDS = 3
OVERRIDES = ("schedule.deterministic=false",)
ENVIRONMENTS = '{"carries": {"kind": "examples.tiny.carries:create"}}'


def asked_for(pair: Pair, seeds: int, control_seeds: int, overrides: Sequence[str] = ()) -> Comparison:
    """The table."""
    return Comparison([pair.folder / f"{name}.yaml" for name in RECIPES], seeds, control_seeds, (*OVERRIDES, *overrides))


TEXT = """# What the bundled pair learns over several turns

Written by `make turns-table`; not by hand. Engine: hf, inline. State: **{state}**, {when}; runs made at commit {commits};
{machine}.

Three-digit addition with a tool that tells what is carried ([the
environment](rollouts.md#a-run-of-several-turns-and-its-control)): four turns, and three answers between them. `carries`
learns from the teacher's scores of the student's tokens of all turns, `carries-reward` from the environment's reward alone.
Both are the files of `examples/tiny/` with `{overrides}`; one is shorter and draws less than the other. Accuracy is exact
match of the last reply, greedy, to the first 256 held-out sums, played with the tool; ± is one standard error over the seeds
of the draws ({seeds} of them; the pair itself was trained once, and prompts come in the same order). Differences against the
first row are between runs of one seed. "scores permuted" ({controls} seeds of each) deals the teacher's rows, or the rewards,
to other places of the same batch. Seconds are those in which a learner was at work, on a machine that was busy with other
things: they are not a benchmark.

The learning rates are those of `recipes/tiny-reverse-kl.yaml` and `recipes/grpo.yaml`; nothing was chosen with these figures
in view.

{table}
"""


def main() -> None:
    given = arguments(__doc__, ROOT / "runs" / "turns", seeds=SEEDS, control_seeds=SEEDS)
    pair = Pair.at(ROOT / "examples" / "tiny")
    asked = asked_for(pair, given.seeds, given.control_seeds, given.overrides)
    table = PairTable(given.folder, asked, TEXT, given.page, services={"PRECEPTOR_ROLLOUT_ENVIRONMENTS": ENVIRONMENTS})
    teachers_file = write_teachers_file(pair, given.folder)
    found = table.read() if given.read else asyncio.run(table.measure(pair, teachers_file, given.for_s))
    print(markdown(HEADER, rows_of(found)))


if __name__ == "__main__":
    main()
