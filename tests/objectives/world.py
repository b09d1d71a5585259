"""A world small enough to enumerate: tables for student and teachers over every prefix, and a term's loss on any of its rollouts.

Everything but the model is the real thing: the recipe is compiled, items are prepared, rows collated, weights and advantages
computed as in a training step, in float64. A rollout is a tuple of tokens; its rows' states are its prefixes.
"""

# pyright: reportArgumentType=false

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor

from preceptor.recipes import CompiledRecipe, compile_recipe, recipe_from
from preceptor_serving.models.vocabulary_head import Head
from preceptor_student.batch import Item
from preceptor_student.objectives.signals import Drawn, ItemScores
from preceptor_student.objectives.student import Compared, StudentRows, read_rows
from preceptor_student.preferences import settled, surrogate
from preceptor_student.term_loss import term_batch, term_loss
from preceptor_student.terms import PreparedStep, bind, prepare
from preceptor_student.wholes import wholes_from

V = 3
SIZES = {"long": {"length": 3, "vocabulary": 3}, "wide": {"length": 2, "vocabulary": 7}}
PLAIN_HEADS = {size: Head(torch.eye(size), size) for size in range(2, 8)}
"""What teachers without a model have: their scores are their hidden states."""
Heads = Mapping[int, Head]
Tokens = tuple[int, ...]


@dataclass(frozen=True)
class Rollout:
    """A response and what is said of it as a whole."""

    tokens: Tokens
    source: str = "rollouts"
    group: str = "rollouts/0"
    rewards: dict[str, float] = field(default_factory=dict)
    truncated: bool = False
    newest_step: int = 0


@dataclass(frozen=True)
class World:
    """Logits over every prefix of up to `length` - 1 tokens. `behaviour` is what rollouts were drawn from; None: the student."""

    length: int
    student: Tensor
    teachers: dict[str, Tensor]
    behaviour: Tensor | None = None
    missing: frozenset[tuple[str, int]] = frozenset()  # (teacher, row) that has no score
    policy_shift: float = 0.0  # how far the logged policy column is from the behaviour column

    @property
    def vocabulary(self) -> int:
        return self.student.shape[1]

    def rows(self, logits: Tensor, tokens: Tokens) -> Tensor:
        """Log-probabilities of each row of a response."""
        return logits[torch.tensor([state(tokens[:at], self.vocabulary) for at in range(len(tokens))])].log_softmax(-1)

    def log_prob(self, tokens: Tokens, logits: Tensor | None = None) -> Tensor:
        """Of the whole response."""
        rows = self.rows(self.student if logits is None else logits, tokens)
        return rows.gather(1, torch.tensor(tokens).to(rows.device)[:, None]).sum()

    def sequences(self) -> Iterator[tuple[Tokens, float]]:
        """Every response and its probability when it is drawn."""
        for tokens in product(range(self.vocabulary), repeat=self.length):
            yield tokens, float(self.log_prob(tokens, self.behaviour).detach().exp())


def state(prefix: Tokens, vocabulary: int = V) -> int:
    """Prefixes numbered: shorter ones first."""
    place = 0
    for token in prefix:
        place = place * vocabulary + token
    return sum(vocabulary**at for at in range(len(prefix))) + place


def world(seed: int = 0, length: int = 3, vocabulary: int = V, **changes) -> World:
    """Random tables; teachers `tutor`, `twin` (the same again), `base`, and `judge` (which grades only)."""
    generator = torch.Generator().manual_seed(seed)
    states = sum(vocabulary**at for at in range(length))

    def table() -> Tensor:
        return torch.randn(states, vocabulary, generator=generator, dtype=torch.float64)

    student, tutor, base = table().requires_grad_(), table(), table()
    made = World(length, student, {"tutor": tutor, "base": base, "twin": tutor})
    return replace(made, **changes)


def recipe(*terms: dict, publish_every_steps: int = 2, samples: int = 2, **changes) -> CompiledRecipe:
    """A recipe for the world; rollouts may be stale, so that importance ratios are no dead knobs."""
    return compile_recipe(recipe_from(values_of(*terms, publish_every_steps=publish_every_steps, samples=samples) | changes))


def values_of(*terms: dict, publish_every_steps: int = 2, samples: int = 2) -> dict[str, Any]:
    """The recipe as it would be written: every source and teacher that the terms speak of."""
    on = {one.get("on", "rollouts") for one in terms} | {
        one["pairs"]["params"]["rejected"] for one in terms if one.get("pairs", {}).get("op") == "source_pairs"
    }
    sources: dict[str, dict[str, Any]] = {name: {"max_response_tokens": 4, "samples_per_prompt": samples} for name in on}
    if _mentions(terms, "environment"):
        sources["rollouts"]["environment"] = {"name": "game"}
    if "demonstrations" in sources:
        sources["demonstrations"]["writer"] = "tutor"
    return {
        "version": 1,
        "name": "tiny-world",
        "summary": "a test",
        "data": {"path": "x.jsonl"},
        "sources": sources,
        "teachers": {name: {"model": name} for name in ("tutor", "base", "twin", "judge") if _mentions(terms, name)},
        "terms": [{"on": "rollouts", **one} for one in terms],
        "optimizer": {"learning_rate": 1e-3},
        "schedule": {"steps": 3, "prompts_per_step": 1, "publish_every_steps": publish_every_steps},
    }


def _mentions(value: object, name: str) -> bool:
    if isinstance(value, dict):
        return any(_mentions(one, name) for one in value.values())
    if isinstance(value, list | tuple):
        return any(_mentions(one, name) for one in value)
    return value == name or (name == "tutor" and value == "demonstrations")


# ---------------------------------------------------------------- a step


def item_of(world: World, rollout: Rollout, compiled: CompiledRecipe) -> Item:
    """What the student service makes of a rollout whose teachers answered from their tables."""
    tokens = np.array(rollout.tokens)
    drawn = world.rows(world.student if world.behaviour is None else world.behaviour, rollout.tokens).detach().numpy()
    column: Any = drawn[np.arange(len(tokens)), tokens]  # in float64, where a service has float32
    return Item(
        ids=np.append(0, tokens),
        positions_r=np.arange(1, len(tokens) + 1),
        source=rollout.source,
        group=rollout.group,
        weight=1.0,
        truncated=rollout.truncated,
        scores={name: scores_of(world, rollout, name, compiled) for name in compiled.teachers} | _played(rollout),
        drawn=Drawn(column + world.policy_shift, column, rollout.newest_step),
    )


def _played(rollout: Rollout) -> dict[str, ItemScores]:
    reward, tokens = rollout.rewards.get("environment"), np.array(rollout.tokens)
    return {} if reward is None else {"environment": ItemScores(np.zeros(len(tokens), bool), tokens, reward=reward)}


def scores_of(world: World, rollout: Rollout, name: str, compiled: CompiledRecipe) -> ItemScores:
    """A teacher's reply from its table. The student's own top tokens, where they are asked for, are those of its rows."""
    tokens, plan = np.array(rollout.tokens), compiled.teachers[name]
    want, reward = plan.want, rollout.rewards.get(name)
    if want is None or name not in world.teachers:
        steps = steps_of(len(tokens), reward) if plan.grading and plan.grading.steps and reward is not None else {}
        return ItemScores(np.ones(len(tokens), bool), tokens, reward=reward, **steps)
    teacher = world.rows(world.teachers[name], rollout.tokens).numpy()
    order = np.argsort(-teacher, axis=1, kind="stable")[:, : want.topk]
    outside = np.ones(teacher.shape, bool)
    np.put_along_axis(outside, order, False, 1)
    listed = _own_top(world, rollout, compiled.sources[rollout.source].student_topk if want.log_candidates else 0)
    np.put_along_axis(outside, listed, False, 1)
    if want.sampled:
        outside[np.arange(len(tokens)), tokens] = False
    with np.errstate(divide="ignore"):
        tail = np.log(np.where(outside, np.exp(teacher), 0).sum(1))
    ok = np.array([(name, row) not in world.missing for row in range(len(tokens))])
    return ItemScores(
        ok,
        tokens,
        sampled_r=np.where(ok, teacher[np.arange(len(tokens)), tokens], np.nan),
        topk_ids_rk=order,
        topk_rk=np.take_along_axis(teacher, order, 1),
        listed_ids_rc=listed,
        listed_rc=np.take_along_axis(teacher, listed, 1) if listed.shape[1] else None,
        listed_there_rc=np.ones(listed.shape, bool),
        tail_r=tail,
        reward=reward,
        entropy_r=-(np.exp(teacher) * teacher).sum(1),
        hidden_rh=teacher.astype(np.float32),
        head_sha256=PLAIN_HEADS[teacher.shape[1]].sha256(),
    )


def steps_of(rows: int, reward: float) -> dict[str, Any]:
    """The first row of several is a step that nobody judged; all others are one step with the reward."""
    if rows == 1:
        return {"step_reward_r": np.array([reward]), "step_r": np.array([0])}
    return {"step_reward_r": np.array([np.nan] + [reward] * (rows - 1)), "step_r": np.array([0] + [1] * (rows - 1))}


def _own_top(world: World, rollout: Rollout, width: int) -> np.ndarray:
    return np.argsort(-world.rows(world.student, rollout.tokens).detach().cpu().numpy(), axis=1, kind="stable")[:, :width]


def prepared(
    world: World, compiled: CompiledRecipe, rollouts: Sequence[Rollout], step: int = 1
) -> tuple[PreparedStep, list[Item]]:
    """The step before any look at the student."""
    items = [item_of(world, one, compiled) for one in rollouts]
    return prepare(bind(compiled.objective, step), items, world.vocabulary, step), items


def loss_of(
    world: World,
    compiled: CompiledRecipe,
    rollouts: Sequence[Rollout],
    step: int = 1,
    size: int = 100,
    heads: Heads = PLAIN_HEADS,
) -> Tensor:
    """The loss of one step with gradient to the student's table, in micro-batches of `size` rollouts."""
    ready, items = prepared(world, compiled, rollouts, step)
    total = torch.zeros((), dtype=torch.float64)
    wholes = wholes_from({one.sha256(): one for one in heads.values()}.__getitem__, compiled.objective.temperature)
    for start in range(0, len(items), size):
        batch, used = items[start : start + size], ready.used_rows[start : start + size]
        log_probs = [world.rows(world.student, one.tokens)[rows] for one, rows in zip(rollouts[start:], used, strict=False)]
        table_nv = torch.cat(log_probs)
        for index, term in enumerate(ready.terms):
            part = term_batch(index, term, batch, start, used, table_nv, wholes)
            if part is None:
                continue
            student, *own = (_student(table_nv, one) for one in part.lookups)
            if term.pairs:
                total = total + surrogate(part, start, student, _coefficients(world, term, rollouts))
            else:
                total = total + term_loss(part, student, own)[0]
    return total


def _student(table_nv: Tensor, lookup) -> StudentRows:
    rows_nv = table_nv[torch.from_numpy(lookup.rows)]
    student, everything = read_rows(rows_nv, lookup.asked), slice(0, len(rows_nv))
    if lookup.whole is None:
        return student
    nats_n, facts = lookup.whole.nats(rows_nv, everything), lookup.whole.facts(rows_nv.detach(), everything)
    return replace(student, compared=Compared(nats_n, *facts))


def _coefficients(world: World, term, rollouts: Sequence[Rollout]) -> np.ndarray:
    sums = [float(world.log_prob(one.tokens).detach()) for one in rollouts]
    return settled(term, sums, [len(one.tokens) for one in rollouts]).coefficients_i


# ---------------------------------------------------------------- gradients


def gradient(world: World, loss: Tensor) -> Tensor:
    """With respect to the student's logits; zero where the loss is constant."""
    if not loss.requires_grad:
        return torch.zeros_like(world.student)
    (found,) = torch.autograd.grad(loss, world.student, allow_unused=True)
    return torch.zeros_like(world.student) if found is None else found


Draws = Sequence[Rollout]


def expectation(world: World, draws: Callable[[World], Iterator[tuple[Draws, float]]], of: Callable[[Draws], Tensor]) -> Tensor:
    """The exact mean of a gradient over everything that may be drawn."""
    total = torch.zeros_like(world.student)
    for drawn, probability in draws(world):
        total += probability * of(drawn)
    return total


def singles(world: World, **about) -> Iterator[tuple[Draws, float]]:
    """One rollout."""
    for tokens, probability in world.sequences():
        yield [Rollout(tokens, **about)], probability


def groups(
    world: World, reward: Callable[[Tokens], float], count: int = 2, giver: str = "judge"
) -> Iterator[tuple[Draws, float]]:
    """A group of rollouts, drawn independently, each with the reward of the judge, or of who else gives it."""
    every = list(world.sequences())
    for members in product(every, repeat=count):
        yield (
            [Rollout(tokens, rewards={giver: reward(tokens)}) for tokens, _ in members],
            float(np.prod([probability for _, probability in members])),
        )
