"""Every shipped recipe compiles, says how far it was checked, and needs the part that makes it what it is.

The small world has three tokens and scores of the teacher's two likeliest; recipes are shrunk to that and are otherwise whole.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch

from preceptor.recipes import compile_recipe, load_recipe, recipe_from, recipe_json_schema
from preceptor.recipes.strict_yaml import read_yaml
from tests.objectives.world import PLAIN_HEADS, Rollout, gradient, loss_of, world

FILES = {path.stem: path for path in sorted(Path("recipes").glob("*.yaml"))}
SMALL = {"teacher_topk": 2, "student_topk": 0, "first": 2, "at_most": 0.9, "low": -0.3, "high": 0.3}
Values = dict[str, Any]


def shrunk(value: Any) -> Any:
    """The same with numbers that fit the small world."""
    if isinstance(value, dict):
        clips = value.get("op") in (None, "clip")
        return {
            key: SMALL[key] if key in SMALL and (clips or key not in ("low", "high")) else shrunk(one)
            for key, one in value.items()
        }
    return [shrunk(one) for one in value] if isinstance(value, list) else value


def without_term(place: int) -> Callable[[Values], None]:
    return lambda values: values["terms"].pop(place)


def judged_whole(values: Values) -> None:
    """The verdict on the whole rollout in place of those on its chunks."""
    term = values["terms"][0]
    term.update(signal={**term["signal"], "op": "reward"}, advantage="group_relative")


def without_steps(values: Values) -> None:
    """The trajectory's score alone."""
    values["terms"][0]["advantage"].pop(0)


def with_slots(**slots: Any) -> Callable[[Values], None]:
    def change(values: Values) -> None:
        for term in values["terms"]:
            term.update(slots)

    return change


PARTS: dict[str, Callable[[Values], None]] = {
    "gkd": without_term(0),
    "minillm": without_term(1),
    "distillm": with_slots(objective="reverse_kl"),
    "vopd": with_slots(advantage="k1"),
    "exopd": with_slots(advantage="k1"),
    "eopd": without_term(1),
    "tip": with_slots(token_weights=[]),
    "prefix-opd": with_slots(token_weights=[]),
    "confidence-router": with_slots(token_weights=[]),
    "lightning": with_slots(advantage="k1"),
    "gad": with_slots(advantage="group_relative"),
    "grpo": with_slots(objective="policy_gradient"),
    "ovd": with_slots(advantage="group_relative"),
    "ovd-steps": without_steps,
    "ropd": with_slots(advantage={"op": "group_relative", "params": {"std_offset": 1e-4}}),
    "rubric-kl": without_term(0),
    "nitrobrew": with_slots(signal="support"),
    "off-policy-kd": with_slots(objective="nll", teacher=None, signal=None),
    "omniopd": judged_whole,
    "preference-judge": with_slots(objective={"op": "bradley_terry", "params": {"beta": 0.3}}, teacher=None, signal=None),
    "opsd": with_slots(objective="reverse_kl"),
    "sdft": with_slots(token_weights=[]),
    "tiny-forward-kl": with_slots(objective="reverse_kl"),
    "tiny-reverse-kl": with_slots(objective="forward_kl"),
    "tiny-k1": with_slots(advantage=["k1", {"op": "reward_to_go"}]),
    "tiny-sft": with_slots(signal={"op": "support", "params": {"teacher_topk": 2}}, teacher="tutor", objective="forward_kl"),
    "tiny-verbal": with_slots(advantage="group_relative"),
}
"""Recipe -> what takes its defining part away; what is left is another method that compiles."""

SIXTEEN = (
    "gkd", "tiny-k1", "minillm", "distillm", "tiny-skd", "tiny-trust-region", "vopd", "exopd", "eopd", "tip", "opsd", "sdft",
    "sdpo", "opcd", "confidence-router", "lightning",
)  # fmt: skip
BASELINES = ("tiny-sft", "grpo", "off-policy-kd")

TAUGHT_OTHERWISE = {"opcd", "opsdc", "sdpo", "sdpo-critique"}
"""Their part is which weights teach and what these read: tests/integration/test_inline_n3.py follows the reference there,
tests/integration/test_defining_parts.py takes the part away."""

DRAWN_OTHERWISE = {"tiny-skd", "tiny-trust-region"}
"""Their part is who draws the tokens, which no loss on given tokens shows: tests/integration/test_inline_n3.py holds that the
rollouts differ from the student's own and that training on them follows the reference, tests/integration/test_defining_parts.py
that without it the gradient is another one."""


def only_used(values: Values) -> Values:
    """Without the sources and teachers that no term names any more."""
    said = repr([values["terms"], values["sources"]])
    sources = {name: one for name, one in values["sources"].items() if repr(name) in repr(values["terms"])}
    return values | {
        "sources": sources,
        "teachers": {name: one for name, one in values["teachers"].items() if repr(name) in said},
    }


def slope(values: Values, device: str = "cpu") -> torch.Tensor:
    compiled = compile_recipe(recipe_from(only_used(shrunk(values))))
    here = world(70, behaviour=world(71).student.detach())
    tables = {name: here.teachers["base" if name in ("base", "second") else "tutor"] for name in compiled.teachers}
    here = replace(here, teachers=tables, student=(2 * here.student.detach()).to(device).requires_grad_())
    drawn = [((0, 1, 2), 1.0), ((2, 2, 1), 0.0), ((1, 0, 0), 4.0), ((0, 0, 2), 2.0)]
    rollouts = [
        Rollout(
            tokens, source, f"{source}/{place // 2}", {name: reward for name, plan in compiled.teachers.items() if plan.grading}
        )
        for source in compiled.sources
        for place, (tokens, reward) in enumerate(drawn)
    ]
    heads = {size: replace(head, weight_vh=head.weight_vh.to(device)) for size, head in PLAIN_HEADS.items()}
    return gradient(here, loss_of(here, compiled, rollouts, heads=heads)).cpu()


@pytest.mark.parametrize("name", FILES)
def test_a_recipe_compiles_fits_the_schema_and_says_how_far_it_was_checked(name: str) -> None:
    jsonschema.validate(read_yaml(FILES[name]), recipe_json_schema())
    recipe = load_recipe(FILES[name])
    assert recipe.name == name
    assert recipe.about is not None
    assert compile_recipe(recipe).warnings == ()


def test_the_page_names_the_tiers_and_each_of_these_says_what_differs() -> None:
    rows = re.findall(
        r"^\| (`[^|]*`) \| (source-checked|reading|sketch|see file) \|", Path("docs/recipes.md").read_text(), re.MULTILINE
    )
    tiers = {name: tier for names, tier in rows for name in re.findall(r"`([^`]+)`", names) if tier != "see file"}
    about = {name: load_recipe(path).about for name, path in FILES.items()}
    assert tiers.items() <= {name: one.tier for name, one in about.items() if one}.items()
    assert {*SIXTEEN, *BASELINES} <= tiers.keys()
    assert all((one := about[name]) is not None and one.differs for name in (*SIXTEEN, *BASELINES))


@pytest.mark.parametrize("name", sorted(set(FILES) - DRAWN_OTHERWISE - TAUGHT_OTHERWISE))
def test_the_defining_part_changes_the_gradient(name: str) -> None:
    whole, less = (read_yaml(FILES[name]) for _ in range(2))
    PARTS[name](less)
    before, after = slope(whole), slope(less)
    assert before.abs().max() > 1e-3
    assert (before - after).abs().max() > 1e-3


def test_a_second_teacher_with_weights_changes_the_gradient_of_rubric_rewards() -> None:
    whole, less = (read_yaml(FILES["rubric-kl"]) for _ in range(2))
    without_term(1)(less)
    assert (slope(whole) - slope(less)).abs().max() > 1e-3
