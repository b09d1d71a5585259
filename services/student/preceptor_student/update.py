"""One optimiser update from the micro-batches of a step."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import numpy as np
import torch

from preceptor.recipes import ObjectiveSpec
from preceptor_student.batch import Item
from preceptor_student.gradients import TermGradients
from preceptor_student.monitors import Means, item_means, watch_rows
from preceptor_student.optimizer import Updater
from preceptor_student.policy import Policy
from preceptor_student.preferences import Settled, settle, surrogate
from preceptor_student.reading import read_student
from preceptor_student.share import ALONE, Share
from preceptor_student.term_loss import term_batch, term_loss
from preceptor_student.terms import PreparedStep, bind, prepare
from preceptor_student.wholes import HeadOf, Wholes, wholes_from

OF_GRADIENTS = (".gradient_norm", ".gradient_share")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an update did."""

    metrics: dict[str, float]
    valid_rows: int
    skipped_rows: int


def update(
    policy: Policy,
    updater: Updater,
    objective: ObjectiveSpec,
    step: int,
    micro_batches: Sequence[Sequence[Item]],
    heads: HeadOf,
    share: Share = ALONE,
) -> Generator[None, None, Outcome]:
    """Gradients of every micro-batch, clipped together, then one update. Without a valid row nothing is updated.

    It pauses after each micro-batch, so that a long step does not hold up the engine's other calls; whoever closes it during
    a pause has changed nothing. A gradient that is not finite is refused before the weights are touched.
    """
    updater.clear()
    outcome = yield from losses_of(policy, objective, step, micro_batches, heads, share)
    norm = updater.apply(step) if outcome.valid_rows else 0.0
    return replace(outcome, metrics=outcome.metrics | {"grad_norm": norm, "learning_rate": updater.rate_at(step)})


@torch.no_grad()
def evaluate(
    policy: Policy, objective: ObjectiveSpec, step: int, items: Sequence[Item], heads: HeadOf, share: Share = ALONE
) -> Outcome:
    """What a step's loss would be on these items; nothing moves and no gradient is gathered."""
    work = losses_of(policy, objective, step, [items], heads, share)
    while True:
        try:
            next(work)
        except StopIteration as finished:
            outcome: Outcome = finished.value
            shown = {name: value for name, value in outcome.metrics.items() if not name.endswith(OF_GRADIENTS)}
            return replace(outcome, metrics=shown)


def losses_of(
    policy: Policy,
    objective: ObjectiveSpec,
    step: int,
    micro_batches: Sequence[Sequence[Item]],
    heads: HeadOf,
    share: Share = ALONE,
) -> Generator[None, None, Outcome]:
    """The losses and monitors of a step; where gradients are on, the parameters have theirs afterwards.

    Ranks take micro-batches in turn. Each runs the model as often as any other, with nothing to learn where it has no rows.
    """
    items = [item for batch in micro_batches for item in batch]
    prepared = prepare(bind(objective, step), items, policy.head_rows, step)
    preferences = yield from settle(policy, objective.temperature, prepared.terms, micro_batches)
    wholes = wholes_from(heads, objective.temperature)
    means, gradients = Means(), TermGradients(len(prepared.terms))
    losses = [preferences[place].loss if place in preferences and not share.rank else 0.0 for place in range(len(prepared.terms))]
    starts = list(accumulate(map(len, micro_batches), initial=0))
    for first in range(share.rank, len(micro_batches) + share.rank, share.ranks):
        batch = micro_batches[first] if first < len(micro_batches) else []
        start = starts[min(first, len(micro_batches))]
        read = _accumulate(
            policy, objective.temperature, prepared, wholes, preferences, batch, start, losses, means, gradients, share
        )
        if not read and share.ranks > 1:
            _go_along(policy, objective.temperature, items[0], gradients)
        yield
    losses = _over_ranks(share, losses, means, gradients)
    metrics = {"loss": sum(losses)}
    metrics |= _term_metrics(prepared, losses, gradients) | means.means() | item_means(items)
    return Outcome(metrics, prepared.valid_rows, prepared.skipped_rows)


def _accumulate(
    policy: Policy,
    temperature: float,
    prepared: PreparedStep,
    wholes: Wholes,
    preferences: Mapping[int, Settled],
    batch: Sequence[Item],
    start: int,
    losses: list[float],
    means: Means,
    gradients: TermGradients,
    share: Share,
) -> bool:
    """Adds one micro-batch's gradient and its part of each term's loss; `start` is its first item in the step.

    Whether there was a row to read.
    """
    used = prepared.used_rows[start : start + len(batch)]
    places = [place for place, rows in enumerate(used) if len(rows)]
    if not places:
        return False
    states_nh = policy.row_states([batch[place] for place in places], [used[place] for place in places])
    kind = states_nh.new_empty(0, dtype=torch.promote_types(states_nh.dtype, torch.float32))  # losses are never narrower
    found = (term_batch(index, term, batch, start, used, kind, wholes) for index, term in enumerate(prepared.terms))
    parts = [one for one in found if one is not None]
    head = policy.head(temperature)
    students = iter(read_student(states_nh, head, [lookup for one in parts for lookup in one.lookups]))
    for one in parts:
        student, *own = (next(students) for _ in one.lookups)
        leaf = gradients.leaf(student)
        if one.index in preferences:
            loss = surrogate(one, start, leaf, preferences[one.index].coefficients_i)
        else:
            loss, rows = term_loss(one, leaf, own)
            watch_rows(rows, means)
        losses[one.index] += loss.item()
        gradients.take(one.index, loss, student, leaf, one.lookup.asked)
    if share.ranks > 1:
        gradients.touch(states_nh, head.weight_vh, head.bias_v)
    gradients.backward()
    return True


def _go_along(policy: Policy, temperature: float, item: Item, gradients: TermGradients) -> None:
    """A forward and a backward that move nothing: the other ranks gather and sum with this one."""
    states_nh = policy.row_states([item], [np.arange(1)])
    head = policy.head(temperature)
    gradients.touch(states_nh, head.weight_vh, head.bias_v)
    gradients.backward()


def _over_ranks(share: Share, losses: list[float], means: Means, gradients: TermGradients) -> list[float]:
    """The losses of all ranks, term by term; means and gradients are of all ranks from then on."""
    if share.ranks == 1:
        return losses
    said = share.together([losses, gradients.squares, means.plain()])
    gradients.squares = [float(sum(column)) for column in zip(*(squares for _, squares, _ in said), strict=True)]
    for rank, (_, _, plain) in enumerate(said):
        if rank != share.rank:
            means.add_plain(plain)
    return [float(sum(column)) for column in zip(*(one for one, _, _ in said), strict=True)]


def _term_metrics(prepared: PreparedStep, losses: Sequence[float], gradients: TermGradients) -> dict[str, float]:
    metrics: dict[str, float] = {}
    norms = gradients.norms()
    for term, loss, norm in zip(prepared.terms, losses, norms, strict=True):
        name = f"term.{term.term.spec.name}"
        metrics[f"{name}.loss"] = loss
        metrics[f"{name}.weight"] = term.term.weight
        metrics[f"{name}.valid_rows"] = float(term.valid_rows)
        metrics[f"{name}.skipped_rows"] = float(term.skipped_rows)
        metrics[f"{name}.infinite_rows"] = float(term.infinite_rows)
        metrics[f"{name}.gradient_norm"] = norm
        metrics[f"{name}.gradient_share"] = norm / sum(norms) if sum(norms) > 0 else 0.0
    return metrics
