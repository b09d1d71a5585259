"""Weights, selections, conditions and normalisers against plain arithmetic on every response."""

from __future__ import annotations

import math

import pytest
import torch

from tests.objectives.test_policy_gradients import EXACT, JUDGED, SAMPLED, facts
from tests.objectives.world import SIZES, Rollout, gradient, loss_of, prepared, recipe, world

FULL = {"teacher": "tutor", "signal": {"op": "support", "params": {"teacher_topk": 3}}, "objective": "forward_kl"}
HALF = {"op": "support", "params": {"teacher_topk": 2, "sampled": False}}


def term(**slots):
    return FULL | slots


def found(here, rollouts, step=1, samples=2, **slots):
    full = {"op": "support", "params": {"teacher_topk": here.vocabulary}}
    return gradient(here, loss_of(here, recipe(term(signal=full) | slots, samples=samples), rollouts, step))


def plain(here, rollouts, weights, divisor):
    """Sum of weight * gradient of KL(teacher || student) over rows, over a count; the weights are numbers."""
    total = torch.zeros((), dtype=torch.float64)
    for rollout, own in zip(rollouts, weights, strict=True):
        p, q = here.rows(here.student, rollout.tokens), here.rows(here.teachers["tutor"], rollout.tokens)
        total = total + (torch.tensor(own, dtype=torch.float64) * (q.exp() * (q - p)).sum(1)).sum()
    return gradient(here, total / divisor)


SHAPES = {
    "student entropy within": (
        {"op": "within", "params": {"of": "student_entropy", "at_least": 0.7, "inside": 2.0, "outside": 0.5}},
        lambda q: 2.0 if q["student_entropy"] >= 0.7 else 0.5,
    ),
    "divergence within": (
        {"op": "within", "params": {"of": "divergence", "at_least": 0.1, "at_most": 0.9}},
        lambda q: float(0.1 <= q["divergence"] <= 0.9),
    ),
    "overlap": (
        {"op": "within", "params": {"of": "overlap", "at_least": 0.75}, "signal": HALF, "teacher": "twin"},
        lambda q: float(q["overlap"] >= 0.75),
    ),
    "sure teachers": (
        {"op": "exponential", "params": {"of": "teacher_entropy", "slope": -1.5}},
        lambda q: math.exp(-1.5 * q["teacher_entropy"]),
    ),
    "surprising tokens": (
        {"op": "sigmoid", "params": {"of": "student_surprisal", "centre": 1.0, "width": 0.3}},
        lambda q: 1 / (1 + math.exp(-(q["student_surprisal"] - 1.0) / 0.3)),
    ),
    "expected tokens": (
        {"op": "sigmoid", "params": {"of": "teacher_surprisal", "centre": 1.0, "width": 0.3, "towards": "small"}},
        lambda q: 1 / (1 + math.exp((q["teacher_surprisal"] - 1.0) / 0.3)),
    ),
}


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("size", SIZES)
def test_a_weight_is_its_plain_formula(name, size):
    here, (weight, formula) = world(20, **SIZES[size]), SHAPES[name]
    seen = set()
    for tokens, _ in here.sequences():
        weights = [formula(facts(here, tokens, row)) for row in range(len(tokens))]
        seen |= {*weights}
        wanted = plain(here, [Rollout(tokens)], [weights], len(tokens))
        torch.testing.assert_close(found(here, [Rollout(tokens)], token_weights=weight), wanted, **EXACT)
    assert len(seen) > 1 or size == "wide"  # bounds that part three tokens need not part seven


@pytest.mark.parametrize("towards", ["large", "small"])
def test_a_relative_weight_compares_with_the_largest_of_its_own_response(towards):
    here = world(21)
    weight = {"op": "relative", "params": {"of": "student_entropy", "gain": 2.0, "towards": towards}}
    rollouts = [Rollout((0, 1, 2)), Rollout((2, 2, 0))]
    entropies = [[facts(here, one.tokens, row)["student_entropy"] for row in range(3)] for one in rollouts]
    shares = [[h / max(own) for h in own] for own in entropies]
    weights = [[1 + 2.0 * (s if towards == "large" else 1 - s) for s in own] for own in shares]
    torch.testing.assert_close(found(here, rollouts, token_weights=weight), plain(here, rollouts, weights, 6), **EXACT)


@pytest.mark.parametrize("of", ["divergence", "log_ratio"])
def test_a_row_weighs_by_entropy_or_by_another_quantity(of):
    """Each over its largest in the response; the log-ratio is often below zero, and then counts for nothing."""
    here = world(21)
    seen = set()
    for tokens, _ in here.sequences():
        quantities = [facts(here, tokens, row) for row in range(3)]
        shares = []
        for name in ("student_entropy", of):
            most = max(one[name] for one in quantities)
            shares.append([max(one[name] / most, 0.0) if most > 0 else 0.0 for one in quantities])
        seen |= {*shares[1]}
        weights = [1 - (1 - h) * (1 - q) for h, q in zip(*shares, strict=True)]
        wanted = plain(here, [Rollout(tokens)], [weights], 3)
        ours = found(here, [Rollout(tokens)], token_weights={"op": "entropy_or", "params": {"of": of}})
        torch.testing.assert_close(ours, wanted, **EXACT)
    assert (0.0 in seen) is (of == "log_ratio")


@pytest.mark.parametrize(("fraction", "kept"), [(0.34, 1), (0.6, 2), (0.01, 1)])
def test_the_top_fraction_goes_by_the_product_so_far(fraction, kept):
    here = world(22)
    chain = [
        {"op": "exponential", "params": {"of": "divergence", "slope": 1.0}},
        {"op": "exponential", "params": {"of": "student_entropy", "slope": -2.0}},
        {"op": "top_fraction", "params": {"fraction": fraction}},
    ]
    for tokens, _ in here.sequences():
        quantities = [facts(here, tokens, row) for row in range(3)]
        order = sorted(range(3), key=lambda row: 2 * quantities[row]["student_entropy"] - quantities[row]["divergence"])
        weights = [float(row in order[:kept]) for row in range(3)]
        wanted = plain(here, [Rollout(tokens)], [weights], 3)
        torch.testing.assert_close(found(here, [Rollout(tokens)], token_weights=chain), wanted, **EXACT)


def test_equal_weights_are_ranked_by_place():
    here = world(22)
    chain = [{"op": "within", "params": {"of": "student_entropy", "at_least": 0.0, "inside": 3.0}},
             {"op": "top_fraction", "params": {"fraction": 0.6}}]  # fmt: skip
    wanted = plain(here, [Rollout((0, 1, 2))], [[1.0, 1.0, 0.0]], 3)
    torch.testing.assert_close(found(here, [Rollout((0, 1, 2))], token_weights=chain), wanted, **EXACT)


def test_mean_one_moves_the_loss_between_rows_and_does_not_scale_it():
    here = world(23)
    chain = [{"op": "exponential", "params": {"of": "student_entropy", "slope": 3.0}}, "mean_one"]
    rollouts = [Rollout((0, 1, 2)), Rollout((2, 2, 0))]
    raw = [[math.exp(3 * facts(here, one.tokens, row)["student_entropy"]) for row in range(3)] for one in rollouts]
    weights = [[3 * weight / sum(own) for weight in own] for own in raw]
    torch.testing.assert_close(found(here, rollouts, token_weights=chain), plain(here, rollouts, weights, 6), **EXACT)


def test_where_all_weights_are_zero_mean_one_leaves_them():
    here = world(23)
    chain = [{"op": "within", "params": {"of": "student_entropy", "at_least": 50.0}}, "mean_one"]
    assert found(here, [Rollout((0, 1, 2))], token_weights=chain).abs().max() == 0


# ---------------------------------------------------------------- selections: not counted anywhere

SELECTED = {
    "skip": ({"op": "positions", "params": {"skip": 1}}, [0, 1, 1]),
    "first": ({"op": "positions", "params": {"first": 2}}, [1, 1, 0]),
    "a stretch": ({"op": "positions", "params": {"skip": 1, "first": 1}}, [0, 1, 0]),
    "after": ({"op": "span", "params": {"after": [0]}}, [0, 1, 1]),
    "after two": ({"op": "span", "params": {"after": [0, 1]}}, [0, 0, 1]),
    "until": ({"op": "span", "params": {"until": [2]}}, [1, 1, 0]),
    "between": ({"op": "span", "params": {"after": [0], "until": [2]}}, [0, 1, 0]),
    "until is looked for behind after": ({"op": "span", "params": {"after": [0], "until": [0]}}, [0, 1, 1]),
}


@pytest.mark.parametrize("name", SELECTED)
def test_rows_that_are_left_out_are_not_counted(name):
    here, (weight, kept) = world(24), SELECTED[name]
    rollouts = [Rollout((0, 1, 2))]
    wanted = plain(here, rollouts, [kept], sum(kept))
    torch.testing.assert_close(found(here, rollouts, token_weights=weight), wanted, **EXACT)
    ready, _ = prepared(here, recipe(term(token_weights=weight)), rollouts)
    assert (ready.valid_rows, ready.skipped_rows) == (sum(kept), 0)


def test_without_its_marker_a_response_has_no_row_behind_it():
    here = world(24)
    ready, _ = prepared(here, recipe(term(token_weights={"op": "span", "params": {"after": [2, 2]}})), [Rollout((0, 1, 2))])
    assert (ready.valid_rows, ready.skipped_rows, ready.terms[0].divisor) == (0, 0, 0)


def test_sums_ahead_go_through_rows_that_are_left_out():
    """The first row's advantage needs the later ones, whether they are trained on or not."""
    here = world(25)
    pg = SAMPLED | {"objective": "policy_gradient", "advantage": ["k1", "reward_to_go"]}
    first = pg | {"token_weights": {"op": "positions", "params": {"first": 1}}}
    ready, _ = prepared(here, recipe(first), [Rollout((0, 1, 2))])
    assert (ready.valid_rows, ready.skipped_rows, ready.terms[0].divisor) == (1, 0, 1)
    p, q = (here.rows(one, (0, 1, 2)) for one in (here.student, here.teachers["tutor"]))
    k1 = (q - p).detach()[[0, 1, 2], [0, 1, 2]].sum()
    wanted = gradient(here, -k1 * p[0, 0])
    torch.testing.assert_close(gradient(here, loss_of(here, recipe(first), [Rollout((0, 1, 2))])), wanted, **EXACT)


# ---------------------------------------------------------------- samples


GROUP = [
    Rollout((0, 1, 2), rewards={"judge": 1.0}, newest_step=4),
    Rollout((2, 2, 0), rewards={"judge": 0.0}, newest_step=2),
    Rollout((1, 1, 1), rewards={"judge": 3.0}, newest_step=5, truncated=True),
    Rollout((1, 0, 1), group="rollouts/1", rewards={"judge": 0.0}, newest_step=5),
]


def mean_log_prob(here, rollout, table):
    return float(here.log_prob(rollout.tokens, table).detach()) / 3


def softmaxed(scores):
    total = sum(map(math.exp, scores))
    return [len(scores) * math.exp(score) / total for score in scores]


def sample_weights(here):
    student = [mean_log_prob(here, one, here.student) for one in GROUP]
    teacher = [mean_log_prob(here, one, here.teachers["tutor"]) for one in GROUP]
    return {
        "pass_rate": ({"passed_at": 1.0, "solved": 2.0}, [(2 / 3) ** 2 / 3] * 3 + [0.0], JUDGED),
        "freshness": ({"decay": 0.5}, [0.5, 0.125, 1.0, 1.0], {}),
        "perplexity of the student": (
            {"of": "student", "prefer": "unlikely", "sharpness": 2.0}, [*softmaxed([-2 * s for s in student[:3]]), 1.0], {},
        ),
        "perplexity of the teacher": (
            {"of": "teacher", "prefer": "likely"}, [*softmaxed(teacher[:3]), 1.0], {"signal": "sampled"},
        ),
    }  # fmt: skip


@pytest.mark.parametrize("name", ["pass_rate", "freshness", "perplexity of the student", "perplexity of the teacher"])
def test_a_sample_weight_is_its_plain_formula(name):
    here = world(26)
    params, weights, reading = sample_weights(here)[name]
    reading = {key: reading[key] for key in ("teacher", "signal") if key in reading}
    use = {"op": name.split()[0], "params": params, **reading}
    wanted = plain(here, GROUP, [[weight] * 3 for weight in weights], 12)
    torch.testing.assert_close(found(here, GROUP, step=6, sample_weights=use), wanted, **EXACT)


CONDITIONS = {
    "reward_within": ({"at_least": 0.5, "at_most": 2.0}, [1, 0, 0, 0]),
    "pass_rate_within": ({"passed_at": 1.0, "at_least": 0.1}, [1, 1, 1, 0]),
    "truncated": ({"was": False}, [1, 1, 0, 1]),
}


@pytest.mark.parametrize("name", CONDITIONS)
def test_only_rollouts_that_meet_the_condition_count(name):
    here = world(27)
    params, kept = CONDITIONS[name]
    reading = {key: JUDGED[key] for key in ("teacher", "signal")} if name != "truncated" else {}
    use = {"op": name, "params": params, **reading}
    wanted = plain(here, GROUP, [[float(one)] * 3 for one in kept], 3 * sum(kept))
    torch.testing.assert_close(found(here, GROUP, when=use), wanted, **EXACT)
    ready, _ = prepared(here, recipe(term(when=use)), GROUP)
    assert (ready.valid_rows, ready.skipped_rows) == (3 * sum(kept), 0)


def test_conditions_are_all_to_be_met():
    here = world(27)
    reading = {key: JUDGED[key] for key in ("teacher", "signal")}
    both = [{"op": "truncated", "params": {"was": False}}, {"op": "reward_within", "params": {"at_least": 0.5}, **reading}]
    torch.testing.assert_close(found(here, GROUP, when=both), plain(here, GROUP, [[1.0] * 3, [0.0] * 3, [0.0] * 3, [0.0] * 3], 3),
                               **EXACT)  # fmt: skip


@pytest.mark.parametrize("slot", ["when", "sample_weights"])
def test_a_rollout_that_nobody_graded_is_skipped_and_counted(slot):
    here = world(27)
    reading = {key: JUDGED[key] for key in ("teacher", "signal")}
    op = (
        {"op": "reward_within", "params": {"at_least": -9}} if slot == "when" else {"op": "pass_rate", "params": {"passed_at": 1}}
    )
    rollouts = [*GROUP[:2], Rollout((1, 1, 1), group="rollouts/2")]
    ready, _ = prepared(here, recipe(term(**{slot: op | reading})), rollouts)
    assert (ready.valid_rows, ready.skipped_rows) == (6, 3)


def test_routing_leaves_a_groups_advantages_as_they_are():
    """Only right answers are reinforced, and they are still compared with the wrong ones."""
    here = world(28)
    reading = {key: JUDGED[key] for key in ("teacher", "signal")}
    grpo = reading | {"objective": "policy_gradient", "advantage": "group_relative"}
    right = grpo | {"when": {"op": "reward_within", "params": {"at_least": 1.0}}}
    got = gradient(here, loss_of(here, recipe(right), GROUP[:3]))
    mean = 4.0 / 3
    terms = [(one.rewards["judge"] - mean) * here.log_prob(one.tokens) for one in (GROUP[0], GROUP[2])]
    loss = -torch.stack(terms).sum() / 6
    torch.testing.assert_close(got, gradient(here, loss), **EXACT)


# ---------------------------------------------------------------- counts


def test_normalisers_count_rows_sequences_or_means_of_sequences():
    here = world(29, missing=frozenset())
    rollouts = [Rollout((0, 1, 2)), Rollout((1,))]
    ones, means = [[1.0] * 3, [1.0]], [[1 / 3] * 3, [1.0]]
    torch.testing.assert_close(found(here, rollouts), plain(here, rollouts, ones, 4), **EXACT)
    torch.testing.assert_close(found(here, rollouts, normaliser="sequences"), plain(here, rollouts, ones, 2), **EXACT)
    torch.testing.assert_close(found(here, rollouts, normaliser="sequence_means"), plain(here, rollouts, means, 2), **EXACT)


def test_terms_keep_their_own_counts():
    here = world(30)
    first = term(token_weights={"op": "positions", "params": {"first": 1}}, weight=2.0)
    second = term(name="rest", objective="reverse_kl", teacher="twin", normaliser="sequences")
    both = gradient(here, loss_of(here, recipe(first, second), GROUP))
    apart = [gradient(here, loss_of(here, recipe(one), GROUP)) for one in (first, second)]
    torch.testing.assert_close(both, apart[0] + apart[1], **EXACT)


def test_micro_batches_change_nothing():
    here = world(31, behaviour=world(32).student.detach(), missing=frozenset({("tutor", 1)}))
    reading = {key: JUDGED[key] for key in ("teacher", "signal")}
    rich = SAMPLED | {
        "objective": "ppo_clip",
        "advantage": [
            "k1",
            {"op": "reward_to_go", "params": {"horizon": 1, "include_current": False}},
            {"op": "group_relative", **reading},
        ],
        "token_weights": [{"op": "relative", "params": {"of": "student_entropy"}}, "mean_one"],
        "sample_weights": {"op": "perplexity", "params": {"of": "student", "prefer": "likely"}},
        "normaliser": "sequence_means",
    }  # fmt: skip
    compiled = recipe(rich)
    whole = gradient(here, loss_of(here, compiled, GROUP))
    assert whole.abs().max() > 1e-3
    for size in (1, 2, 3):
        torch.testing.assert_close(gradient(here, loss_of(here, compiled, GROUP, size=size)), whole, **EXACT)
