"""`make black-box-table`: every shipped recipe that asks a judge, on the bundled pair, over seeds; docs/black-box-table.md.

Beside each recipe runs its control, the same with verdicts dealt to other rollouts of the batch; before them the reward of an
exact match, and training on text of the teacher. The judge is the stand-in provider, a process of its own behind a key.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from benchmarks.pair_table import ROOT, PairTable, arguments
from preceptor.compare import HEADER, Comparison, Outcome, estimate, markdown, rows_of
from preceptor.demo.pair import STUDENT_NAME, TEACHER_NAME, Pair
from preceptor.demo.provider import JUDGE_NAME, StandInProvider
from preceptor.learner.waits import beside
from preceptor.local.supervisor import Supervisor
from preceptor.recipes import compile_recipe, load_recipe
from preceptor.recipes.ops.reward import COMPARING

EXACT, TEXT_OF_TEACHER, CRITIC_NAME = "grpo", "tiny-sft", "tiny-critic"
STEPS, SEEDS, CONTROL_SEEDS = 40, 3, 3
OVERRIDES = (
    f"schedule.steps={STEPS}",
    f"optimizer.learning_rate.steps={STEPS}",
    f"evaluation.every_steps={STEPS}",
    "schedule.deterministic=false",
)
PRICE = {"prompt_usd_per_million": 2.5, "completion_usd_per_million": 10.0}
COLUMNS = [place for place, name in enumerate(HEADER) if name != "reverse KL"]
SPENT = ("calls", "tokens read", "tokens written", "cost, USD")


def recipes() -> list[Path]:
    """The two that ask nobody, then whatever asks a judge: new recipes are found by that."""
    found = sorted((ROOT / "recipes").glob("*.yaml"))
    return [ROOT / "recipes" / f"{name}.yaml" for name in (EXACT, TEXT_OF_TEACHER)] + [one for one in found if asks_a_judge(one)]


def asks_a_judge(recipe: Path) -> bool:
    """Whether somebody grades who does not just compare with the answer."""
    teachers = compile_recipe(load_recipe(recipe)).teachers.values()
    return any(one.grading is not None and one.grading.grader not in COMPARING for one in teachers)


def rows(outcomes: Sequence[Outcome]) -> list[tuple[str, ...]]:
    """As every comparison has them, with what was asked of the provider for one run."""
    groups: dict[str, list[Outcome]] = {}
    for one in outcomes:
        groups.setdefault(one.entry.group, []).append(one)
    return [
        (*(row[place] for place in COLUMNS), *_spent(found))
        for row, found in zip(rows_of(outcomes), groups.values(), strict=True)
    ]


def _spent(outcomes: Sequence[Outcome]) -> tuple[str, ...]:
    all_spent = [one.spent for one in outcomes if one.spent is not None]
    if not all_spent:
        return ("",) * len(SPENT)
    counts = zip(*((one.calls, one.prompt_tokens, one.completion_tokens) for one in all_spent), strict=True)
    costs = [one.cost_usd for one in all_spent if one.cost_usd is not None]
    return (*(f"{estimate(count).mean:,.0f}" for count in counts), f"{estimate(costs).mean:.2f}" if costs else "unknown")


def facts(outcomes: Sequence[Outcome]) -> dict[str, object]:
    """Whether a control learned, read off the runs."""
    learned = [one.entry.name for one in outcomes if one.entry.control != "none" and not one.failure and one.after > one.before]
    return {"learned": ", ".join(learned) or "none", "price": " and ".join(f"${one:g}" for one in PRICE.values())}


async def measure(table: PairTable, pair: Pair, for_s: float) -> list[Outcome]:
    """The judge is served beside the runs, as a provider would be."""
    provider = StandInProvider(pair.teacher, table.folder / "provider")
    weights = {TEACHER_NAME: {"folder": str(pair.teacher)}, STUDENT_NAME: {"folder": str(pair.student)}}
    critic = {"folder": str(pair.student), "state_folder": str(table.folder / "critic"), "writer": JUDGE_NAME}
    learns = {CRITIC_NAME: {"engine": "discriminator", **critic}}
    teachers_file = provider.write_teachers_file(weights | learns, PRICE)
    async with AsyncExitStack() as stack:
        supervisor = await stack.enter_async_context(Supervisor(((provider.child,),)))
        return await beside(supervisor.watch(), table.measure(pair, teachers_file, for_s))


TEXT = """# What black-box recipes learn on the bundled pair

Written by `make black-box-table`; not by hand. Engine: hf, inline. State: **{state}**, {when}; runs made at commit {commits};
{machine}.

Three-digit addition (`examples/tiny/README.md`): the student starts from sums it mostly gets wrong. Accuracy is exact match of
greedy answers to the first 256 held-out sums; ± is one standard error over the seeds of the draws ({seeds} of them; one seed
has none; the pair itself was trained once, and prompts come in the same order). Every recipe in `recipes/` is here that asks a
judge. One rule puts all of them on the pair, and none was tuned for it: the file as it is, with

```text
{overrides}
```

The judge is the [stand-in provider](black-box.md#try-it-without-a-key) over the bundled teacher: it plays a judge, by comparing
a response with its own answer, and never sees a label. Its verdicts are better than those of most judges: what a recipe learns
from them does not say what it would learn from a real one. Calls, tokens and cost are what the judge was asked in one run, as
the teacher service booked it, at {price} for a million tokens read and written. The price is made up, and tokens are bytes here:
the pair's tokenizer has no longer ones. `tiny-sft` draws text of the teacher, which would have cost tokens at a provider, too.

| against | row |
| --- | --- |
| (i) verdicts shuffled | "scores permuted", {controls} seeds of each: verdicts and scores of other rollouts |
| (ii) the reward of an exact match | `grpo`, the first row, which differences are taken from, between runs of one seed |
| (iii) training on the teacher's text | `tiny-sft`: it asks no judge and reads no score, so it has no control |

What to know of a row before reading it. `grpo`: an exact match says nothing where a whole group is right, or wrong, and early on
most are; a score of the steps does. `sdpo-critique`: the pair's student has never read a sentence, so a copy of it that reads a
critique knows no more than one that does not: it is not expected to gain here. `rubric-kl` has log-probabilities of a
second teacher beside its verdicts: what it gains over `ropd` is theirs. `gad` has no verdicts of the judge, but its text, and a
discriminator that starts from the student's own weights; its first ten steps are the discriminator's alone. It is not
expected to gain here: this student draws nearly the same text eight times, so there is little to compare
([where they differ](discriminator-table.md)).

Controls that ended above their start: **{learned}**. Seconds are those in which a learner was at work, on a machine that was busy
with other things: they are not a benchmark. This is a report, not a bar.

{table}
"""


def main() -> None:
    given = arguments(__doc__, ROOT / "runs" / "black-box", seeds=SEEDS, control_seeds=CONTROL_SEEDS)
    asked = Comparison(recipes(), given.seeds, given.control_seeds, (*OVERRIDES, *given.overrides))
    header = (*(HEADER[place] for place in COLUMNS), *SPENT)
    table = PairTable(given.folder, asked, TEXT, given.page, header, rows, facts)
    pair = Pair.at(ROOT / "examples" / "tiny")
    found = table.read() if given.read else asyncio.run(measure(table, pair, given.for_s))
    print(markdown(header, rows(found)))


if __name__ == "__main__":
    main()
