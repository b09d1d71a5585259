"""One optimiser update from the micro-batches of a step."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from preceptor.errors import InvalidArgument
from preceptor.recipes import ObjectiveSpec, Optimizer
from preceptor_student.batch import Item
from preceptor_student.collate import Pair, asked_of, term_rows
from preceptor_student.forward import row_states
from preceptor_student.gradients import TermGradients
from preceptor_student.head import head_of
from preceptor_student.monitors import Means, item_means, watch_rows
from preceptor_student.objectives import ADVANTAGES, OBJECTIVES, TermRows
from preceptor_student.objectives.rows import Support
from preceptor_student.optimizer import rate_at, set_rate
from preceptor_student.reading import Lookup, read_student
from preceptor_student.terms import BoundTerm, PreparedStep, PreparedTerm, bind, prepare


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
    prepared = prepare(bind(objective, step), items, model.config.get_text_config().vocab_size)
    means, losses, gradients = Means(), [0.0] * len(prepared.terms), TermGradients(len(prepared.terms))
    optimizer.zero_grad(set_to_none=True)
    start = 0
    for batch in micro_batches:
        _accumulate(model, objective.temperature, prepared, batch, start, losses, means, gradients)
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
    batch: Sequence[Item],
    start: int,
    losses: list[float],
    means: Means,
    gradients: TermGradients,
) -> None:
    """Adds one micro-batch's gradient and its part of each term's loss; `start` is its first item in the step."""
    places = [i for i in range(len(batch)) if len(prepared.used_rows[start + i])]
    if not places:
        return
    used = [prepared.used_rows[start + i] for i in places]
    states_nh = row_states(model, [batch[i] for i in places], used)
    readings = [
        reading
        for index, term in enumerate(prepared.terms)
        if (reading := _reading(index, term, batch, start, places, used, states_nh))
    ]
    students = read_student(states_nh, head_of(model, temperature), [one.lookup for one in readings])
    for reading, student in zip(readings, students, strict=True):
        term = prepared.terms[reading.index]
        leaf = gradients.leaf(student)
        loss = _term_loss(term, term_rows(leaf, reading.lookup.asked, reading.support, reading.pairs), reading.weights, means)
        losses[reading.index] += loss.item()
        gradients.take(reading.index, loss, student, leaf, reading.lookup.asked)
    gradients.backward()


@dataclass(frozen=True, slots=True)
class _Reading:
    """One term in one micro-batch."""

    index: int
    pairs: Sequence[Pair]
    lookup: Lookup
    support: Support | None
    weights: np.ndarray


def _reading(
    index: int,
    term: PreparedTerm,
    batch: Sequence[Item],
    start: int,
    places: Sequence[int],
    used: Sequence[np.ndarray],
    states_nh: Tensor,
) -> _Reading | None:
    """What a term reads of the states at `used` rows of the items at `places`; None where it has no row here."""
    firsts = np.cumsum([0, *map(len, used)])
    pairs: list[Pair] = []
    taken: list[np.ndarray] = []
    weights: list[np.ndarray] = []
    for first, i, rows in zip(firsts, places, used, strict=False):
        one = term.items[start + i]
        if one is not None and len(one.rows):
            pairs.append((batch[i], one))
            taken.append(first + np.searchsorted(rows, one.rows))
            weights.append(np.full(len(one.rows), batch[i].weight))
    if not pairs:
        return None
    asked, support = asked_of(pairs, states_nh)
    return _Reading(index, pairs, Lookup(np.concatenate(taken), asked), support, np.concatenate(weights))


def _term_loss(term: PreparedTerm, rows: TermRows, weights: np.ndarray, means: Means) -> Tensor:
    rows = with_advantage(term.term, rows)
    loss_n = OBJECTIVES[term.term.objective.name].loss(rows, term.term.objective.params)
    watch_rows(rows, means)
    return term.term.weight * (loss_n * torch.from_numpy(weights).to(loss_n)).sum() / term.divisor


def with_advantage(term: BoundTerm, rows: TermRows) -> TermRows:
    """The rows with the detached advantage that the term asks for."""
    if term.advantage is None:
        return rows
    return replace(rows, advantage_n=ADVANTAGES[term.advantage.name].per_row(rows, term.advantage.params).detach())


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
