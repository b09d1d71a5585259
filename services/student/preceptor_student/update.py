"""One optimiser update from the micro-batches of a step."""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from preceptor.errors import InvalidArgument
from preceptor.recipes import ObjectiveSpec, Optimizer
from preceptor_student.batch import Item
from preceptor_student.forward import row_states
from preceptor_student.gradients import TermGradients
from preceptor_student.head import head_of
from preceptor_student.monitors import Means, item_means, watch_rows
from preceptor_student.optimizer import rate_at, set_rate
from preceptor_student.preferences import Settled, settle, surrogate
from preceptor_student.reading import read_student
from preceptor_student.term_loss import term_batch, term_loss
from preceptor_student.terms import PreparedStep, bind, prepare


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an update did."""

    metrics: dict[str, float]
    valid_rows: int
    skipped_rows: int


def update(
    model: PreTrainedModel,
    optimizer: torch.optim.Optimizer,
    config: Optimizer,
    objective: ObjectiveSpec,
    step: int,
    micro_batches: Sequence[Sequence[Item]],
) -> Generator[None, None, Outcome]:
    """Gradients of every micro-batch, clipped together, then one update. Without a valid row nothing is updated.

    It pauses after each micro-batch, so that a long step does not hold up the engine's other calls; whoever closes it during
    a pause has changed nothing. A gradient that is not finite is refused before the weights are touched.
    """
    items = [item for batch in micro_batches for item in batch]
    prepared = prepare(bind(objective, step), items, model.config.get_text_config().vocab_size, step)
    preferences = yield from settle(model, objective.temperature, prepared.terms, micro_batches)
    means, gradients = Means(), TermGradients(len(prepared.terms))
    losses = [preferences[place].loss if place in preferences else 0.0 for place in range(len(prepared.terms))]
    optimizer.zero_grad(set_to_none=True)
    start = 0
    for batch in micro_batches:
        _accumulate(model, objective.temperature, prepared, preferences, batch, start, losses, means, gradients)
        start += len(batch)
        yield
    rate = rate_at(config, step)
    norm = _apply(model, optimizer, config, rate, step) if prepared.valid_rows else 0.0
    metrics = {"loss": sum(losses), "grad_norm": norm, "learning_rate": rate}
    metrics |= _term_metrics(prepared, losses, gradients) | means.means() | item_means(items)
    return Outcome(metrics, prepared.valid_rows, prepared.skipped_rows)


def _accumulate(
    model: PreTrainedModel,
    temperature: float,
    prepared: PreparedStep,
    preferences: Mapping[int, Settled],
    batch: Sequence[Item],
    start: int,
    losses: list[float],
    means: Means,
    gradients: TermGradients,
) -> None:
    """Adds one micro-batch's gradient and its part of each term's loss; `start` is its first item in the step."""
    used = prepared.used_rows[start : start + len(batch)]
    places = [place for place, rows in enumerate(used) if len(rows)]
    if not places:
        return
    states_nh = row_states(model, [batch[place] for place in places], [used[place] for place in places])
    found = (term_batch(index, term, batch, start, used, states_nh) for index, term in enumerate(prepared.terms))
    parts = [one for one in found if one is not None]
    students = iter(read_student(states_nh, head_of(model, temperature), [lookup for one in parts for lookup in one.lookups]))
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
    gradients.backward()


def _apply(model: PreTrainedModel, optimizer: torch.optim.Optimizer, config: Optimizer, rate: float, step: int) -> float:
    """Clips, steps, and returns the norm before clipping."""
    limit = config.max_grad_norm if config.max_grad_norm is not None else math.inf
    norm = float(torch.nn.utils.clip_grad_norm_(model.parameters(), limit))
    if not math.isfinite(norm):
        optimizer.zero_grad(set_to_none=True)
        raise InvalidArgument(
            f"step {step} has a gradient that is not finite; the weights were not touched", field="micro_batches", value=norm
        )
    set_rate(optimizer, rate)
    optimizer.step()
    return norm


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
