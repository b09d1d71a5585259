"""Every parameter of every op of a term's slots changes the gradient, and every recipe's gradient depends on its teacher.

A knob that is read and lost on its way to the loss passes every other test.
"""

from __future__ import annotations

import pytest
import torch
from pydantic_core import PydanticUndefined

from preceptor.recipes.ops import OPS, Gradient, Kind
from tests.objectives.test_policy_gradients import JUDGED, SAMPLED
from tests.objectives.world import Rollout, gradient, loss_of, recipe, world

GRADED = {key: JUDGED[key] for key in ("teacher", "signal")}
K1 = SAMPLED | {"objective": "policy_gradient", "advantage": "k1"}
STEPPED = {"teacher": "judge", "signal": {"op": "step_reward", "params": {"grader": "chunks"}}}
FKL = {"teacher": "tutor", "signal": {"op": "support", "params": {"teacher_topk": 2}}, "objective": "forward_kl"}
BARE = {"op": "support", "params": {"teacher_topk": 2, "sampled": False}}
BT = {"objective": "bradley_terry", "pairs": {"op": "reward_pairs", "params": {}, **GRADED}, "normaliser": "pairs"}


def with_(base, slot, op, params, **reading):
    return base | {slot: {"op": op, "params": params, **reading}}


def after_k1(op, params, **reading):
    return K1 | {"advantage": ["k1", {"op": op, "params": params, **reading}]}


def ranked(op, params):
    """A weight that works on one before it."""
    first = {"op": "exponential", "params": {"of": "student_entropy", "slope": 2.0}}
    return FKL | {"token_weights": [first, {"op": op, "params": params}]}


# op -> (how a term with these parameters looks, parameters, one other value for each of its parameters)
CASES = {
    "k1": (lambda p: with_(K1, "advantage", "k1", p), {}, {"scale": -0.5, "student": "drawn"}),
    "group_relative": (
        lambda p: with_(JUDGED | {"objective": "policy_gradient"}, "advantage", "group_relative", p),
        {"std_offset": 1.0},
        {"baseline": "others", "std_offset": 0.1, "scale": 2.0},
    ),
    "step_belief": (
        lambda p: with_(STEPPED | {"objective": "policy_gradient"}, "advantage", "step_belief", p), {}, {"own": 1.0}
    ),
    "step_relative": (
        lambda p: with_(STEPPED | {"objective": "policy_gradient"}, "advantage", "step_relative", p),
        {"std_offset": 1.0}, {"std_offset": 0.1},
    ),
    "scale": (lambda p: after_k1("scale", p), {"by": 2.0}, {"by": -1.0}),
    "clip": (lambda p: after_k1("clip", p), {"low": -0.3, "high": 0.3}, {"low": -0.1, "high": 0.1}),
    "keep_sign": (lambda p: after_k1("keep_sign", p), {"sign": "positive"}, {"sign": "negative"}),
    "factor_within": (
        lambda p: after_k1("factor_within", p),
        {"of": "student_entropy", "at_least": 0.6, "at_most": 0.95},
        {"of": "teacher_entropy", "at_least": 0.9, "at_most": 0.8, "inside": 2.0, "outside": -1.0},
    ),
    "kl_baseline": (lambda p: after_k1("kl_baseline", p, teacher="twin", signal=BARE), {}, {}),
    "reward_to_go": (
        lambda p: after_k1("reward_to_go", p), {},
        {"discount": 0.5, "include_current": False, "mean": True, "horizon": 2},
    ),
    "policy_gradient": (lambda p: K1 | {"objective": {"op": "policy_gradient", "params": p}}, {}, {}),
    "ppo_clip": (
        lambda p: K1 | {"objective": {"op": "ppo_clip", "params": p}}, {}, {"low": 0.9, "high": 5.0, "against": "policy"}
    ),
    "soft_targets": (lambda p: FKL | {"objective": {"op": "soft_targets", "params": p}}, {}, {"teacher_share": 0.4}),
    "nll": (lambda p: {"on": "demonstrations", "objective": {"op": "nll", "params": p}}, {}, {}),
    "dpo": (
        lambda p: BT | SAMPLED | {"teacher": "base", "objective": {"op": "dpo", "params": p}}, {}, {"beta": 1.0}
    ),
    "bradley_terry": (
        lambda p: BT | {"objective": {"op": "bradley_terry", "params": p}}, {}, {"beta": 0.2, "mean": True, "margin": 1.0}
    ),
    "orpo": (lambda p: BT | {"objective": {"op": "orpo", "params": p}}, {}, {"beta": 0.3}),
    "within": (
        lambda p: with_(FKL, "token_weights", "within", p),
        {"of": "student_entropy", "at_least": 0.6, "at_most": 0.95},
        {"of": "divergence", "at_least": 0.9, "at_most": 0.8, "inside": 2.0, "outside": 1.5},
    ),
    "exponential": (
        lambda p: with_(FKL, "token_weights", "exponential", p),
        {"of": "teacher_entropy", "slope": 1.0}, {"of": "student_surprisal", "slope": -1.0},
    ),
    "relative": (
        lambda p: with_(FKL, "token_weights", "relative", p), {"of": "teacher_entropy"},
        {"of": "student_entropy", "gain": 3.0, "towards": "small"},
    ),
    "sigmoid": (
        lambda p: with_(FKL, "token_weights", "sigmoid", p), {"of": "log_ratio", "centre": 0.0, "width": 1.0},
        {"of": "teacher_surprisal", "centre": 1.0, "width": 0.1, "towards": "small"},
    ),
    "entropy_or": (
        lambda p: with_(FKL, "token_weights", "entropy_or", p), {"of": "divergence"}, {"of": "teacher_entropy"}
    ),
    "top_fraction": (lambda p: ranked("top_fraction", p), {"fraction": 0.3}, {"fraction": 0.7}),
    "mean_one": (lambda p: ranked("mean_one", p), {}, {}),
    "truncated_ratio": (
        lambda p: with_(FKL, "token_weights", "truncated_ratio", p), {}, {"cap": 0.9, "against": "policy"}
    ),
    "masked_ratio": (
        lambda p: with_(FKL, "token_weights", "masked_ratio", p), {"low": 0.4, "high": 1.9},
        {"low": 0.99, "high": 1.01, "against": "policy"},
    ),
    "positions": (lambda p: with_(FKL, "token_weights", "positions", p), {"skip": 1, "first": 1}, {"skip": 0, "first": 2}),
    "span": (
        lambda p: with_(FKL, "token_weights", "span", p), {"after": [0], "until": [2]}, {"after": [1], "until": [1]}
    ),
    "unjudged": (lambda p: with_(FKL, "token_weights", "unjudged", p, **STEPPED), {}, {}),
    "pass_rate": (
        lambda p: with_(FKL, "sample_weights", "pass_rate", p, **GRADED), {"passed_at": 1.0, "solved": 2.0},
        {"passed_at": 2.5, "solved": 3.0, "unsolved": 3.0},
    ),
    "freshness": (lambda p: with_(FKL, "sample_weights", "freshness", p), {"decay": 0.5}, {"decay": 0.9}),
    "perplexity": (
        lambda p: with_(FKL, "sample_weights", "perplexity", p, **({"signal": "sampled"} if p["of"] == "teacher" else {})),
        {"of": "student", "prefer": "likely"}, {"of": "teacher", "prefer": "unlikely", "sharpness": 3.0},
    ),
    "reward_within": (
        lambda p: with_(FKL, "when", "reward_within", p, **GRADED), {"at_least": 0.5, "at_most": 2.0},
        {"at_least": 0.0, "at_most": 9.0},
    ),
    "pass_rate_within": (
        lambda p: with_(FKL, "when", "pass_rate_within", p, **GRADED),
        {"passed_at": 1.0, "at_least": 0.5, "at_most": 0.9}, {"passed_at": 2.5, "at_least": 0.1, "at_most": 0.6},
    ),
    "truncated": (lambda p: with_(FKL, "when", "truncated", p), {"was": True}, {"was": False}),
    "reward_pairs": (
        lambda p: with_(BT, "pairs", "reward_pairs", p, **GRADED), {"take": "all"}, {"take": "extremes", "min_gap": 1.5}
    ),
    "source_pairs": (
        lambda p: with_(BT, "pairs", "source_pairs", p) | {"on": "demonstrations"}, {"rejected": "rollouts"},
        {"rejected": "others"},
    ),
}  # fmt: skip
HERE = world(50, behaviour=world(51).student.detach(), policy_shift=0.4)
ROLLOUTS = [
    Rollout((0, 1, 2), rewards={"judge": 1.0}, newest_step=3),
    Rollout((2, 2, 1), rewards={"judge": 0.0}, newest_step=2),
    Rollout((1, 1, 0), rewards={"judge": 3.0}, newest_step=0, truncated=True),
    Rollout((1, 0, 2), group="rollouts/1", rewards={"judge": 0.0}, newest_step=3),
    Rollout((1, 2, 2), group="rollouts/1", rewards={"judge": 0.5}, newest_step=1),
    Rollout((2, 0, 1), group="rollouts/1", rewards={"judge": 2.5}, newest_step=1),
]
OTHERS = [Rollout((1, 1, 0), "demonstrations", "demonstrations/0"), Rollout((2, 1, 0), "others", "others/0")]


def got(term, here=HERE):
    compiled = recipe(term)
    sources = compiled.sources
    return gradient(here, loss_of(here, compiled, [one for one in [*ROLLOUTS, *OTHERS] if one.source in sources], step=5))


def knobs():
    return [(op, name) for op, (_, _, others) in CASES.items() for name in others]


@pytest.mark.parametrize(("op", "name"), knobs(), ids=str)
def test_a_parameter_changes_the_gradient(op, name):
    build, params, others = CASES[op]
    before = got(build(params))
    assert before.abs().max() > 1e-4
    changed = got(build(params | {name: others[name]}))
    assert (changed - before).abs().max() > 1e-4


def test_no_parameter_of_these_ops_is_left_out():
    for op, (_, params, others) in CASES.items():
        fields = OPS[op].params.model_fields
        assert others.keys() == fields.keys(), op
        defaults = {name: field.default for name, field in fields.items() if field.default is not PydanticUndefined}
        assert all((defaults | params)[name] != value for name, value in others.items() if name in defaults | params), op


def test_every_op_that_shapes_a_term_is_here():
    divergences = {spec.name for spec in OPS.values() if spec.kind is Kind.OBJECTIVE and spec.gradient is Gradient.PATHWISE}
    signals = {spec.name for spec in OPS.values() if spec.kind is Kind.SIGNAL}
    assert CASES.keys() | divergences | signals == OPS.keys() | divergences


@pytest.mark.parametrize("op", [op for op in CASES if OPS[op].kind is not Kind.OBJECTIVE])
def test_the_op_itself_changes_the_gradient(op):
    build, params, _ = CASES[op]
    with_op = build(params)
    slots = {"token_weights": [], "sample_weights": [], "when": [], "advantage": "k1"}
    slot = {Kind.TOKEN_WEIGHT: "token_weights", Kind.SAMPLE_WEIGHT: "sample_weights", Kind.CONDITION: "when",
            Kind.TRANSFORM: "advantage"}.get(OPS[op].kind)  # fmt: skip
    if slot is None:
        pytest.skip("an advantage or pairs cannot be left out; their parameters are tried above")
    before = with_op[slot][:1] if slot == "token_weights" and isinstance(with_op[slot], list) else slots[slot]
    assert (got(with_op) - got(with_op | {slot: before})).abs().max() > 1e-4


def another_teacher(here):
    """The same world with every teacher another one."""
    other = world(99)
    changed = world(50, behaviour=here.behaviour, policy_shift=here.policy_shift)
    changed.teachers.update(tutor=other.teachers["tutor"], twin=other.teachers["tutor"], base=other.teachers["base"])
    return changed


@pytest.mark.parametrize("op", CASES)
def test_the_gradient_depends_on_what_teachers_and_judges_say(op):
    build, params, _ = CASES[op]
    term = build(params)
    compiled = recipe(term)
    if term.get("on") == "demonstrations":
        pytest.skip("the teacher speaks by having written the rollouts")
    judged = any(plan.grading for plan in compiled.teachers.values())
    scored = any(plan.want for plan in compiled.teachers.values())
    here = another_teacher(HERE) if scored else HERE
    rollouts = [Rollout(one.tokens, one.source, one.group, {"judge": 2.0 - one.rewards["judge"]} if judged else {},
                        one.truncated, one.newest_step) for one in ROLLOUTS]  # fmt: skip
    before = gradient(HERE, loss_of(HERE, compiled, ROLLOUTS, step=5))
    after = gradient(here, loss_of(here, compiled, rollouts, step=5))
    assert (before - after).abs().max() > 1e-4


def test_ramps_reach_the_ops():
    term = after_k1("scale", {"by": {"schedule": "linear", "start": 1.5, "end": 3.5, "steps": 4}})
    compiled = recipe(term)
    early, late = (gradient(HERE, loss_of(HERE, compiled, ROLLOUTS, step=step)) for step in (1, 3))
    torch.testing.assert_close(late, early * (2.5 / 1.5), rtol=0, atol=1e-12)
