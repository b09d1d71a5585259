"""Every op without each of its inputs, and with one that it cannot use: refused in a sentence, with the nearest valid recipe."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest

from preceptor.errors import ConfigurationError
from preceptor.recipes import compile_recipe, recipe_from
from preceptor.recipes.compile import findings_of
from preceptor.recipes.load import override
from preceptor.recipes.ops import OPS, Gradient, Kind
from tests.objectives.test_every_knob import CASES, FKL, GRADED
from tests.objectives.world import values_of
from tests.unit.preceptor_student.divergence_cases import ALL, label

Values = dict[str, Any]
INPUTS = ("teacher", "signal", "advantage", "pairs")

TERMS: dict[str, Values] = {
    **{op: build(params) for op, (build, params, _) in CASES.items()},
    **{label(one): FKL | {"objective": {"op": one[0], "params": one[1].model_dump(exclude_defaults=True)}} for one in ALL},
}
"""Op, or divergence with its parameters -> a term that is fine."""

INHERITED = {
    ("dpo", "pairs.teacher"),
    ("pass_rate", "sample_weights.teacher"),
    ("unjudged", "token_weights.teacher"),
    ("reward_within", "when.teacher"),
    ("pass_rate_within", "when.teacher"),
}
"""A slot that names a signal and no teacher takes the term's."""


def inputs(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where a term names a teacher, a signal, an advantage or pairs, itself or in one of its slots."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in items:
        if key in INPUTS:
            yield (*path, key)
        if key != "signal":
            yield from inputs(one, (*path, key))


def without(op: str, path: tuple[Any, ...]) -> Values:
    """The whole recipe, its teachers as they were."""
    values = copy.deepcopy(values_of(TERMS[op]))
    holder = values["terms"][0]
    for key in path[:-1]:
        holder = holder[key]
    del holder[path[-1]]
    return values


REMOVED = [(op, path) for op, term in TERMS.items() for path in inputs(term)]


def dotted(value: Any) -> str:
    return value if isinstance(value, str) else ".".join(map(str, value))


@pytest.mark.parametrize("op", TERMS)
def test_a_term_with_all_its_inputs_is_fine(op: str) -> None:
    assert findings_of(recipe_from(values_of(TERMS[op]))) == []


@pytest.mark.parametrize(("op", "path"), [one for one in REMOVED if (one[0], dotted(one[1])) not in INHERITED], ids=dotted)
def test_an_op_without_one_of_its_inputs_is_refused_and_told_the_nearest_that_is_fine(op: str, path: tuple[Any, ...]) -> None:
    values = without(op, path)
    with pytest.raises(ConfigurationError) as refused:
        compile_recipe(recipe_from(values))
    assert refused.value.field.startswith("terms[0]")
    assert refused.value.hint
    for one in findings_of(recipe_from(values)):
        assert one.sentence, one
        assert not set(one.sentence) & {".", "\n"}, "one sentence"
        assert one.hint, one
        changed = copy.deepcopy(values)
        for text in one.fix:
            override(changed, text)
        still = [(other.field, other.sentence) for other in findings_of(recipe_from(changed))]
        assert not one.fix or (one.field, one.sentence) not in still


@pytest.mark.parametrize(("op", "place"), sorted(INHERITED))
def test_a_slot_without_a_teacher_takes_the_terms(op: str, place: str) -> None:
    name, key = place.split(".")
    term = copy.deepcopy(TERMS[op])
    del term[name][key]
    compiled = compile_recipe(recipe_from(values_of(term)))
    slot = getattr(compiled.objective.terms[0], name)
    assert (slot[0] if isinstance(slot, tuple) else slot).teacher == compiled.objective.terms[0].teacher


@pytest.mark.parametrize("op", [label(one) for one in ALL])
def test_the_fix_of_a_divergence_without_a_teacher_or_signal_is_a_recipe_that_compiles(op: str) -> None:
    for path in (("teacher",), ("signal",)):
        values = without(op, path)
        (finding,) = [one for one in findings_of(recipe_from(values)) if one.field == f"terms[0].{path[0]}"]
        for text in finding.fix:
            override(values, text)
        assert finding.fix
        compile_recipe(recipe_from(values))


def surplus() -> Iterator[tuple[str, Values]]:
    for op, term in TERMS.items():
        spec = OPS[op.split("-")[0]]
        if spec.gradient in (Gradient.PATHWISE, Gradient.LIKELIHOOD, Gradient.PREFERENCE):
            yield f"{op} with an advantage", term | {"advantage": "k1"}
        if spec.kind is Kind.OBJECTIVE and spec.gradient is not Gradient.PREFERENCE:
            yield f"{op} with pairs", term | {"pairs": {"op": "reward_pairs", **GRADED}}
        if spec.gradient is Gradient.PREFERENCE:
            yield f"{op} with a token weight", term | {"token_weights": {"op": "positions", "params": {"first": 1}}}
        yield f"{op} with a slot that there is not", term | {"token_weight": "mean_one"}


@pytest.mark.parametrize(("name", "term"), list(surplus()), ids=lambda one: one if isinstance(one, str) else "")
def test_an_input_that_an_op_has_no_use_for_is_refused(name: str, term: Values) -> None:
    with pytest.raises(ConfigurationError) as refused:
        compile_recipe(recipe_from(values_of(term)))
    assert refused.value.hint or refused.value.field, name


def uses(term: Values) -> Iterator[Values]:
    """Every op of a term that is written with its parameters."""
    for value in term.values():
        yield from (one for one in (value if isinstance(value, list) else [value]) if isinstance(one, dict) and "op" in one)


@pytest.mark.parametrize("op", [op for op in TERMS if op in OPS])
def test_parameters_that_are_missing_or_unknown_are_refused_by_name(op: str) -> None:
    needed = [name for name, field in OPS[op].params.model_fields.items() if field.is_required()]
    for name in (*needed, "unheard_of"):
        values = copy.deepcopy(values_of(TERMS[op]))
        own = next((one for one in uses(values["terms"][0]) if one["op"] == op), None)
        if own is None:
            continue  # written by its name alone: every parameter has a default
        if name in needed:
            del own["params"][name]
        else:
            own["params"][name] = 1
        with pytest.raises(ConfigurationError) as refused:
            compile_recipe(recipe_from(values))
        assert name in str(refused.value), name
