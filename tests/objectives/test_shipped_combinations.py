"""Every shipped recipe as a whole against the gradient of its expected objective, by exact enumeration of all that may be drawn.

The recipe is compiled; its terms, weights, advantages and normalisers work together as in a training step, in float64. Only
numbers that do not fit a tiny world are shrunk: widths of supports, bounds, counts of rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from preceptor.recipes import CompiledRecipe, compile_recipe, recipe_from
from preceptor.recipes.strict_yaml import read_yaml
from preceptor_student import objectives
from preceptor_student.objectives.kinds import Advantage, every_row
from preceptor_student.objectives.signals import ItemScores
from tests.objectives import world as worlds
from tests.objectives.expected import CLIP, EXPECTED, FIRST, TOP, reward, undecided
from tests.objectives.world import Rollout, World, gradient, loss_of, world

FILES = {path.stem: path for path in sorted(Path("recipes").glob("*.yaml"))}
BAR, DRAWS = 1e-5, 20_000
F32 = 1e-6
JUDGED = ("gad", "grpo", "ovd", "ovd-steps", "preference-judge", "ropd", "tiny-verbal")
STALE, BOTH = ("gad", "grpo", "ovd", "ovd-steps", "ropd"), ("gkd",)
GROUPED = (*JUDGED, "rubric-kl", "sdpo", "sdpo-critique")
LONG, WIDE = (3, 3), (7, 2)
"""Tokens of the vocabulary, rows of a response."""

PAIRED = [(3, 2), (2, 3), (7, 1)]
"""For recipes where two responses are drawn at a time."""

CASES = [(name, size) for name in FILES for size in (PAIRED if name in GROUPED + BOTH else [LONG, WIDE])]
SLOW = [(name, size) for name in BOTH for size in (LONG, WIDE)]

CASES_OF = dict(reversed(CASES))
"""The first size of each recipe."""

each = pytest.mark.parametrize(("name", "size"), CASES, ids=str)


@dataclass(frozen=True)
class Case:
    """A shrunk recipe in a world of a size."""

    here: World
    compiled: CompiledRecipe
    grouped: bool

    def draws(self) -> Iterator[tuple[list[Rollout], float]]:
        """Everything that a step may see: one response of each source, or a group of two that is graded."""
        sources = [one for one in self.compiled.sources for _ in range(2 if self.grouped else 1)]
        every = [self._responses(source) for source in sources]
        for drawn in product(*every):
            yield [rollout for rollout, _ in drawn], float(np.prod([probability for _, probability in drawn]))

    def _responses(self, source: str) -> list[tuple[Rollout, float]]:
        writer = self.compiled.sources[source].writer
        grades = [name for name, plan in self.compiled.teachers.items() if plan.grading]
        found = []
        for tokens, probability in self.here.sequences():
            chance = (
                float(self.here.log_prob(tokens, self.here.teachers[writer]).exp())
                if writer in self.compiled.teachers
                else probability
            )
            stepped = any(plan.grading and plan.grading.steps for plan in self.compiled.teachers.values())
            rewards = dict.fromkeys(grades, reward(tokens)) if self.grouped or stepped else {}
            found.append((Rollout(tokens, source, f"{source}/0", rewards), chance))
        return found

    def slope(self, drawn: Sequence[Rollout]) -> Tensor:
        return gradient(self.here, loss_of(self.here, self.compiled, drawn))

    def slopes(self) -> tuple[Tensor, Tensor]:
        """The gradient of every draw, and how likely the draw is."""
        pairs = [(self.slope(drawn), probability) for drawn, probability in self.draws()]
        return torch.stack([one for one, _ in pairs]), torch.tensor([one for _, one in pairs], dtype=torch.float64)

    def expected(self, name: str) -> Tensor:
        return gradient(self.here, EXPECTED[name](self.here))


def shrunk(value: Any, vocabulary: int) -> Any:
    """The same with numbers that fit the small world."""
    if not isinstance(value, dict):
        return [shrunk(one, vocabulary) for one in value] if isinstance(value, list) else value
    new = {"teacher_topk": TOP, "student_topk": TOP, "accept_topk": TOP, "first": FIRST}
    new |= {} if "passed_at" in value else dict.fromkeys(("at_least", "at_most"), undecided(vocabulary))  # a rate fits any world
    new |= {"low": -CLIP, "high": CLIP} if value.get("low", 0) < 0 else {}
    return {key: new.get(key, shrunk(one, vocabulary)) for key, one in value.items()}


def case(name: str, size: tuple[int, int]) -> Case:
    vocabulary, length = size
    compiled = compile_recipe(recipe_from(shrunk(read_yaml(FILES[name]), vocabulary)))
    here = world(170, length, vocabulary)
    tables = {name: here.teachers["base" if name in ("base", "second") else "tutor"] for name in compiled.teachers}
    other = any(source.policy_json for source in compiled.sources.values()) or name in STALE
    drawing = world(171, length, vocabulary).student.detach() if other else None
    return Case(replace(here, teachers=tables, behaviour=drawing), compiled, name in GROUPED)


@cache
def enumerated(name: str, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    return case(name, size).slopes()


def mean_of(slopes: Tensor, chances: Tensor) -> Tensor:
    assert float(chances.sum()) == pytest.approx(1.0)
    return (chances[:, None, None] * slopes).sum(0)


def test_every_shipped_recipe_has_its_formula() -> None:
    assert EXPECTED.keys() == FILES.keys()


@pytest.mark.slow
@each
def test_the_mean_gradient_over_all_draws_is_that_of_the_expected_objective(name: str, size: tuple[int, int]) -> None:
    wanted = case(name, size).expected(name)
    assert wanted.abs().max() > 1e-3
    torch.testing.assert_close(mean_of(*enumerated(name, size)), wanted, rtol=0, atol=F32 if on_states(name) else BAR / 1e4)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "size"), SLOW, ids=str)
def test_the_same_where_two_sources_are_drawn_at_full_size(name: str, size: tuple[int, int]) -> None:
    here = case(name, size)
    torch.testing.assert_close(mean_of(*here.slopes()), here.expected(name), rtol=0, atol=BAR / 1e4)


@each
def test_the_mean_of_draws_is_within_four_standard_errors(name: str, size: tuple[int, int]) -> None:
    slopes, chances = enumerated(name, size)
    counts = np.random.default_rng(11).multinomial(DRAWS, chances.numpy() / float(chances.sum()))
    share = torch.from_numpy(counts / DRAWS)[:, None, None]
    mean = (share * slopes).sum(0)
    error = ((share * slopes**2).sum(0) - mean**2).clamp_min(0).sqrt() / DRAWS**0.5
    wanted = case(name, size).expected(name)
    assert ((mean - wanted).abs() <= 4 * error + (F32 if on_states(name) else 1e-12)).all()
    assert (wanted.abs() > 4 * error).any(), "the draws could not tell this gradient from zero"


# ---------------------------------------------------------------- broken twins

Reply = Callable[[ItemScores, CompiledRecipe], ItemScores]


def zero_filled(scores: ItemScores, _: CompiledRecipe) -> ItemScores:
    """The first two rows came without numbers, and they were taken to be zero; some recipes leave out the first."""
    filled = {}
    for name in ("sampled_r", "topk_rk", "listed_rc", "tail_r", "entropy_r", "hidden_rh"):
        if (column := getattr(scores, name)) is not None:
            filled[name] = np.concatenate([np.zeros_like(column[:2]), column[2:]])
    return replace(scores, **filled)


def renormalised(scores: ItemScores, _: CompiledRecipe) -> ItemScores:
    """The teacher's list scaled to a sum of one, as if it were all that there is; next to nothing is left outside."""
    if scores.reward is not None:
        return scores  # a verdict has no list
    assert scores.topk_rk is not None and scores.tail_r is not None  # noqa: PT018
    inside = np.logaddexp.reduce(scores.topk_rk, axis=1)
    return replace(scores, topk_rk=scores.topk_rk - inside[:, None], tail_r=scores.tail_r - 20)


def action_independent(scores: ItemScores, _: CompiledRecipe) -> ItemScores:
    """Whatever token was drawn, the same number."""
    return replace(scores, sampled_r=np.full_like(scores.sampled_r, -1.0))


def scored(name: str) -> bool:
    return any(plan.want for plan in case(name, LONG).compiled.teachers.values())


def lists(name: str) -> bool:
    """Whether it learns from the teacher's lists; a baseline out of them moves no mean, whatever they say."""
    return any(term.signal and term.signal.op == "support" for term in case(name, LONG).compiled.objective.terms)


def on_states(name: str) -> bool:
    """Whether it reads hidden states: a teacher's head turns them into scores in f32, and no token is drawn or listed."""
    return any(term.signal and term.signal.op == "hidden" for term in case(name, LONG).compiled.objective.terms)


REPLIES: list[tuple[str, Reply]] = [
    *((name, zero_filled) for name in FILES if scored(name)),
    *((name, renormalised) for name in FILES if lists(name)),
    *((name, action_independent) for name in FILES if scored(name) and not lists(name) and not on_states(name)),
]


@pytest.mark.parametrize(("name", "broken"), REPLIES, ids=lambda one: getattr(one, "__name__", one))
def test_a_reply_that_was_tampered_with_is_another_gradient(name: str, broken: Reply, monkeypatch: pytest.MonkeyPatch) -> None:
    here, reply = case(name, CASES_OF[name]), worlds.scores_of
    monkeypatch.setattr(worlds, "scores_of", lambda *about: broken(reply(*about), about[3]))
    assert (mean_of(*here.slopes()) - here.expected(name)).abs().max() > 10 * BAR


@pytest.mark.parametrize("name", FILES)
def test_another_teacher_or_judge_is_another_gradient(name: str) -> None:
    here = case(name, CASES_OF[name])
    wanted = mean_of(*enumerated(name, CASES_OF[name]))
    if name in JUDGED:
        blind = [(here.slope([replace(one, rewards=dict.fromkeys(one.rewards, 1.0)) for one in drawn]), chance)
                 for drawn, chance in here.draws()]  # fmt: skip
        assert max(float(one.abs().max()) for one, _ in blind) == 0.0, "a judge that always says the same teaches nothing"
        return
    others = world(172, here.here.length, here.here.vocabulary).teachers["tutor"]
    tables = dict.fromkeys(here.here.teachers, others)
    changed = replace(here, here=replace(here.here, teachers=tables))
    assert (mean_of(*changed.slopes()) - wanted).abs().max() > 1e-3


@pytest.mark.parametrize("name", JUDGED)
def test_a_verdict_that_is_missing_is_not_a_verdict_of_zero(name: str) -> None:
    """The other rollout is then alone in its group and has no advantage; filled with zero, it would have one."""
    here = case(name, (3, 2))
    tokens = [one for one, _ in here.here.sequences()]
    judge = next(iter(here.compiled.teachers))
    graded, bare = Rollout(tokens[5], rewards={judge: 4.0}), Rollout(tokens[1])
    assert here.slope([graded, bare]).abs().max() == 0
    assert here.slope([graded, replace(bare, rewards={judge: 0.0})]).abs().max() > 1e-3


@pytest.mark.parametrize("name", [name for name in FILES if "k1" in FILES[name].read_text() and name not in JUDGED])
def test_an_advantage_that_ignores_the_action_has_another_mean(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    here = case(name, LONG)
    if not any(use.op == "k1" for term in here.compiled.objective.terms for use in term.advantage):
        pytest.skip("speaks of k1 and does not use it")
    monkeypatch.setitem(objectives.ADVANTAGES, "k1", Advantage(every_row, lambda rows, _: rows.student.observed.entropy_n))
    assert (mean_of(*here.slopes()) - here.expected(name)).abs().max() > 10 * BAR
