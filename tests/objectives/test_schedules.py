"""A number that moves: the gradient is that of the recipe with the step's number, for every parameter that takes a ramp."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, get_args

import pytest
import torch

from preceptor.errors import ConfigurationError
from preceptor.recipes.ops import OPS
from preceptor.recipes.schedules import Ramp, at_step
from tests.objectives.test_every_knob import CASES, FKL, HERE, OTHERS, ROLLOUTS
from tests.objectives.world import gradient, loss_of, recipe
from tests.unit.preceptor_student.divergence_cases import ALL, label

STEPS = (1, 4, 9)
RAMPS: dict[str, Any] = {kind: {"schedule": kind, "steps": 5} for kind in ("linear", "cosine")}


def takes_a_ramp(op: str, name: str) -> bool:
    return "Ramp" in repr(OPS[op].params.model_fields[name].annotation) or Ramp in get_args(
        OPS[op].params.model_fields[name].annotation
    )


def moving() -> Iterator[tuple[str, Any, str, float, float]]:
    """(label, how the term looks with these parameters, the parameter, its first value, its last)."""
    for op, (build, params, others) in CASES.items():
        known = {name: field.default for name, field in OPS[op].params.model_fields.items()} | params
        for name, last in others.items():
            if takes_a_ramp(op, name) and isinstance(first := known[name], int | float):
                yield f"{op}.{name}", lambda p, build=build, params=params: build(params | p), name, float(first), float(last)
    for op, values, _ in ALL:
        for name, first in values.model_dump(exclude_defaults=True).items():
            if takes_a_ramp(op, name) and 0 < first < 1:
                given = values.model_dump(exclude_defaults=True)
                of = {"op": op, "params": given}
                yield (
                    f"{label((op, values, None))}.{name}",
                    lambda p, of=of, given=given: FKL | {"objective": of | {"params": given | p}},
                    name, first, first + 0.4 if name == "threshold_nats" else first / 3,
                )  # fmt: skip


MOVING = list(moving())


def slopes(term: dict, steps: Sequence[int]) -> list[torch.Tensor]:
    compiled = recipe(term)
    rollouts = [one for one in [*ROLLOUTS, *OTHERS] if one.source in compiled.sources]
    return [gradient(HERE, loss_of(HERE, compiled, rollouts, step=step)) for step in steps]


@pytest.mark.slow
@pytest.mark.parametrize(("build", "name", "first", "last"), [one[1:] for one in MOVING], ids=[one[0] for one in MOVING])
def test_at_each_step_it_is_the_recipe_with_the_number_of_that_step(build, name, first, last) -> None:
    ramp = RAMPS["linear" if len(name) % 2 else "cosine"] | {"start": first, "end": last}
    found = slopes(build({name: ramp}), STEPS)
    for step, one in zip(STEPS, found, strict=True):
        (wanted,) = slopes(build({name: at_step(Ramp(**ramp), step)}), [step])
        torch.testing.assert_close(one, wanted, rtol=0, atol=1e-12)
    assert (found[0] - found[-1]).abs().max() > 1e-6


def test_most_numbers_of_ops_may_move_and_those_that_may_not_say_so() -> None:
    assert len(MOVING) > 25
    with pytest.raises(ConfigurationError, match="first"):
        recipe(FKL | {"token_weights": {"op": "positions", "params": {"first": RAMPS["linear"] | {"start": 1, "end": 2}}}})
