"""One optimiser update from the micro-batches of a step."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import torch

from preceptor.recipes import ObjectiveSpec
from preceptor_student.accumulate import Accumulator, StepFacts, check_comparable
from preceptor_student.batch import Item
from preceptor_student.gradients import TermGradients
from preceptor_student.monitors import item_means
from preceptor_student.optimizer import Updater
from preceptor_student.policy import Policy
from preceptor_student.preferences import settle
from preceptor_student.share import ALONE, Share
from preceptor_student.terms import PreparedStep, bind, prepare
from preceptor_student.wholes import HeadOf, wholes_from

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
    wholes = wholes_from(heads, objective.temperature)
    if share.ranks > 1:
        check_comparable(prepared, micro_batches, wholes, policy)
    with share.apart():
        preferences = yield from settle(policy, objective.temperature, prepared.terms, micro_batches)
        facts = StepFacts(policy, objective.temperature, prepared, wholes, preferences, share)
        sums = Accumulator(facts)
        starts = list(accumulate(map(len, micro_batches), initial=0))
        for first in range(share.rank, len(micro_batches) + share.rank, share.ranks):
            batch = micro_batches[first] if first < len(micro_batches) else []
            read = sums.add(batch, starts[min(first, len(micro_batches))])
            if not read and share.ranks > 1:
                sums.go_along(items[0])
            yield
        losses = sums.over_ranks()
    metrics = {"loss": sum(losses)}
    metrics |= _term_metrics(prepared, losses, sums.gradients) | sums.means.means() | item_means(items)
    return Outcome(metrics, prepared.valid_rows, prepared.skipped_rows)


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
