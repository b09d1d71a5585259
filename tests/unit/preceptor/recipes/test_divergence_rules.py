"""What the linter refuses of divergences, what it warns of, and that its advice works."""

from __future__ import annotations

import pytest

from preceptor.errors import ConfigurationError
from preceptor.recipes import compile_recipe, recipe_from
from preceptor.types import TailOf

BASE = {
    "version": 1,
    "name": "test",
    "summary": "a test",
    "data": {"path": "x.jsonl"},
    "sources": {"own": {"max_response_tokens": 40}, "written": {"max_response_tokens": 40, "writer": "tutor"}},
    "teachers": {"tutor": {"model": "tiny-teacher"}},
    "optimizer": {"learning_rate": 1e-4},
    "schedule": {"steps": 3, "prompts_per_step": 4},
}


def recipe(support: dict, params: dict, on: str = "own", op: str = "reverse_kl", **schedule):
    signal = {"op": "support", "params": {"teacher_topk": 4} | support}
    term = {"on": on, "teacher": "tutor", "signal": signal, "objective": {"op": op, "params": params}}
    sources = {on: BASE["sources"][on]}
    return recipe_from(BASE | {"terms": [term], "sources": sources, "schedule": BASE["schedule"] | schedule})


@pytest.mark.parametrize(
    ("support", "params", "on", "said", "fix"),
    [
        ({}, {"unbiased": True}, "own", "never in the tail", "terms.0.signal.params.sampled=apart"),
        ({"sampled": "apart"}, {"unbiased": True}, "written", "a teacher writes these", "params.unbiased=false"),
        ({}, {"stop_gradient": True}, "own", "changes nothing", "params.stop_gradient=false"),
        ({"tail": False, "renormalise": True}, {"stop_gradient": True}, "own", "changes nothing", "params.stop_gradient=false"),
    ],
)
def test_what_cannot_work_is_refused_with_a_way_out(support, params, on, said, fix):
    with pytest.raises(ConfigurationError, match=said) as refused:
        compile_recipe(recipe(support, params, on))
    assert fix in (refused.value.hint or "")


def on_hidden_states(op: str, **params):
    values = recipe({}, params, op=op).model_dump(mode="json")
    values["terms"][0]["signal"] = "hidden"
    return recipe_from(values)


SUMS: dict[str, dict] = {
    "reverse_kl": {},
    "forward_kl": {},
    "jsd": {},
    "skew_kl": {"direction": "forward"},
    "alpha_divergence": {"alpha": 0.5},
    "f_divergence": {"generator": "triangular"},
}


@pytest.mark.parametrize("op", SUMS)
def test_a_divergence_that_is_one_sum_reads_hidden_states(op: str):
    want = compile_recipe(on_hidden_states(op, **SUMS[op])).teachers["tutor"].want
    assert want is not None
    assert (want.hidden, want.topk, want.sampled, want.tail) == (True, 0, False, TailOf.NONE)


@pytest.mark.parametrize(
    ("op", "params", "said"),
    [
        ("reverse_kl", {"unbiased": True}, "leave none: every token is compared"),
        ("reverse_kl", {"stop_gradient": True}, "sum to one"),
        ("adaptive_kl", {}, "adaptive_kl cannot read hidden"),
        ("soft_targets", {"teacher_share": 0.5}, "soft_targets cannot read hidden"),
    ],
)
def test_what_has_no_meaning_on_every_token_is_refused(op, params, said):
    with pytest.raises(ConfigurationError, match=said):
        compile_recipe(on_hidden_states(op, **params))


@pytest.mark.parametrize(
    ("support", "params"),
    [
        ({"sampled": "apart"}, {"unbiased": True}),
        ({"tail": False}, {"stop_gradient": True}),
        ({"combine": "intersection", "student_topk": 4}, {}),
    ],
)
def test_what_works_compiles(support, params):
    assert compile_recipe(recipe(support, params)).recipe


@pytest.mark.parametrize(
    ("support", "params", "schedule", "field"),
    [
        ({"tail": False}, {}, {}, "terms[0].signal.params.tail"),
        ({"tail": False, "renormalise": True}, {}, {}, "terms[0].signal.params.renormalise"),
        ({}, {"entry_clamp": 0.05}, {}, "terms[0].objective.params.entry_clamp"),
        ({}, {"row_clamp": 0.05}, {}, "terms[0].objective.params.row_clamp"),
        ({"sampled": "apart"}, {"unbiased": True}, {"publish_every_steps": 2}, "schedule.publish_every_steps"),
    ],
)
def test_a_bias_that_was_asked_for_is_declared(support, params, schedule, field):
    (warning,) = compile_recipe(recipe(support, params, **schedule)).warnings
    assert warning.field == field
    assert "bias" in warning.sentence or "newest weights" in warning.sentence


def test_an_unbiased_recipe_is_not_warned_of():
    assert compile_recipe(recipe({}, {})).warnings == ()
    assert compile_recipe(recipe({"sampled": "apart"}, {"unbiased": True})).warnings == ()
