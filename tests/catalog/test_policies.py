"""Numeric checks of published methods whose parts exist here: advantages, weights, conditions and preferences.

Each test names its row of the catalogue of methods. S is the student, T the teacher of the catalogue's toy position.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from preceptor.recipes.ops import OPS
from preceptor.recipes.ops.group_relative import GroupRelativeParams
from preceptor.recipes.ops.pass_rate import PassRateParams
from preceptor.recipes.ops.perplexity import PerplexityParams
from preceptor_student.objectives import ADVANTAGES, SAMPLE_WEIGHTS, TOKEN_WEIGHTS
from preceptor_student.objectives.kinds import Responses
from preceptor_student.objectives.rows import TermRows
from preceptor_student.objectives.samples import Sample
from preceptor_student.objectives.student import Observed, StudentRows
from tests.objectives.test_policy_gradients import JUDGED, expected, k1_term
from tests.objectives.world import Rollout, gradient, loss_of, prepared, recipe, world

S, T = [0.6, 0.3, 0.1], [0.2, 0.3, 0.5]
GRADED = {key: JUDGED[key] for key in ("teacher", "signal")}
GRPO = JUDGED | {"objective": "policy_gradient", "advantage": "group_relative", "name": "grpo"}
CLOSE = {"rtol": 0, "atol": 1e-10}


def toy(student=S, *teachers):
    """One position with these distributions; teachers are tutor and base."""
    tables = [torch.tensor([row], dtype=torch.float64).log() for row in (student, *(teachers or (T, T)))]
    made = world(length=1)
    tables += [tables[-1]] * (3 - len(tables))
    return replace(made, student=tables[0].requires_grad_(), teachers={"tutor": tables[1], "twin": tables[1], "base": tables[2]})


def coefficients(here, term, tokens=range(3)):
    """What each token's log-probability is multiplied by: the advantage, read off the loss by its derivative."""
    compiled = recipe(term)
    out = []
    for token in tokens:
        slope = gradient(here, loss_of(here, compiled, [Rollout((token,))]))
        one_hot = torch.nn.functional.one_hot(torch.tensor([token]), 3)
        direction = one_hot - here.student.detach().softmax(-1)
        out.append(float(-(slope * direction).sum() / (direction**2).sum()))
    return out


def test_minillm_length_normalised_reward_to_go():
    r = [0.5, -1.0, 0.2]
    here = world(length=3)
    tokens = (0, 1, 2)
    rows = here.rows(here.student, tokens).detach()
    compiled = recipe(k1_term({"op": "reward_to_go", "params": {"include_current": False, "mean": True}}))
    ready, items = prepared(here, compiled, [Rollout(tokens)])
    sampled = items[0].scores["tutor"].sampled_r
    assert sampled is not None
    sampled[:] = [float(rows[row, token]) + r[row] for row, token in enumerate(tokens)]
    from preceptor_student.collate import term_rows
    from preceptor_student.objectives.student import read_rows
    from preceptor_student.term_loss import advantage_of, term_batch

    part = term_batch(0, ready.terms[0], items, 0, ready.used_rows, rows)
    assert part is not None
    views = [term_rows(read_rows(rows, part.lookup.asked), part.lookup.asked, None, part.pairs, place) for place in range(2)]
    found = advantage_of(part.term.term, views)
    assert found is not None
    assert found.tolist() == pytest.approx([-0.4, 0.2, 0.0], abs=1e-12)


def test_minillm_without_mixing_every_importance_weight_is_one():
    here = toy()
    weighed = k1_term(token_weights={"op": "truncated_ratio", "params": {"cap": 9.0}})
    assert coefficients(here, weighed) == pytest.approx(coefficients(here, k1_term()), abs=1e-12)


def test_vopd_centred_advantages():
    here = toy()
    support = {"op": "support", "params": {"teacher_topk": 3, "sampled": False}}
    centred = coefficients(here, k1_term({"op": "kl_baseline", "teacher": "twin", "signal": support}))
    plain = coefficients(here, k1_term())
    assert centred == pytest.approx([-0.6004, 0.4982, 2.1077], abs=5e-5)
    assert sum(p * a for p, a in zip(S, centred, strict=True)) == pytest.approx(0, abs=1e-12)
    assert sum(p * a * a for p, a in zip(S, plain, strict=True)) == pytest.approx(0.983, abs=5e-4)
    assert sum(p * a * a for p, a in zip(S, centred, strict=True)) == pytest.approx(0.735, abs=5e-4)


def test_aopd_positive_part():
    assert coefficients(toy(), k1_term({"op": "keep_sign", "params": {"sign": "positive"}})) == pytest.approx(
        [0.0, 0.0, 1.609], abs=5e-4
    )


def test_rethinking_opd_identical_models_have_no_advantage():
    assert coefficients(toy(S, S), k1_term()) == pytest.approx([0.0] * 3, abs=1e-12)


@pytest.mark.parametrize("lam", [1.0, 1.25])
def test_extrapolation_cliff_fixed_point(lam):
    """Bernoulli p = 0.95, b = 0.8 with lambda 1.25: the tilted target q = 0.9656, where the expected gradient is zero."""
    q = {1.0: 0.95, 1.25: 0.9656}[lam]
    here = toy([q, 1 - q - 1e-12, 1e-12], [0.95, 0.05 - 1e-12, 1e-12], [0.8, 0.2 - 1e-12, 1e-12])
    chain = [{"op": "k1", "params": {"scale": lam}}]
    if lam != 1.0:
        chain.append({"op": "k1", "params": {"scale": 1 - lam}, "teacher": "base"})
    assert expected(here, k1_term() | {"advantage": chain})[0, :2].abs().max() < 1e-4
    off = toy([0.9, 0.1 - 1e-12, 1e-12], [0.95, 0.05 - 1e-12, 1e-12], [0.8, 0.2 - 1e-12, 1e-12])
    assert expected(off, k1_term() | {"advantage": chain})[0, :2].abs().max() > 1e-2


def test_uni_opd_and_lightning_opd_advantages_are_bounded():
    clipped = coefficients(toy(), k1_term({"op": "clip", "params": {"low": -0.5, "high": 1.0}}))
    assert clipped == pytest.approx([-0.5, 0.0, 1.0], abs=1e-12)


def test_popd_grows_the_horizon_and_truncated_responses_keep_their_weight():
    """Index 50 of 100 lies half way; a response that its horizon cut counts like one that ended."""
    ramp = {"schedule": "linear", "start": 1000, "end": 16_000, "steps": 100}
    grown = recipe(k1_term(), sources={"rollouts": {"max_response_tokens": 16_000, "samples_per_prompt": 2, "horizon": ramp}})
    assert [grown.sources["rollouts"].longest_at(index) for index in (0, 50, 100, 150)] == [1000, 8500, 16_000, 16_000]
    here = world(7)
    slopes = [
        gradient(here, loss_of(here, recipe(k1_term()), [Rollout((0, 1, 2), truncated=cut), Rollout((2, 1, 0))]))
        for cut in (False, True)
    ]
    torch.testing.assert_close(*slopes, **CLOSE)
    assert float(slopes[0].abs().max()) > 1e-3


# ---------------------------------------------------------------- rewards


def advantages(rewards, **params):
    over_batch = ADVANTAGES["group_relative"].over_batch
    assert over_batch is not None
    return over_batch(rewards, ["g"] * len(rewards), GroupRelativeParams(**params))


def test_ovd_and_ropd_group_advantages():
    assert advantages([9.0, 0.0], std_offset=1e-12) == pytest.approx([1.0, -1.0])
    assert advantages([5.0, 5.0], std_offset=1e-12) == [0.0, 0.0]


def test_lgr_lookahead_rewards_are_a_standardised_group():
    assert advantages([0.9, 0.5, 0.1], std_offset=1e-12) == pytest.approx([1.2247, 0.0, -1.2247], abs=5e-5)


def test_kdrl_and_dgrpo_without_spread_the_gradient_is_that_of_distillation_alone():
    here = world(3)
    distil = k1_term(name="distil", teacher="base")
    group = [Rollout((0, 1, 2), rewards={"judge": 1.0}), Rollout((2, 1, 1), rewards={"judge": 1.0})]
    both = gradient(here, loss_of(here, recipe(GRPO, distil), group))
    torch.testing.assert_close(both, gradient(here, loss_of(here, recipe(distil), group)), **CLOSE)


@pytest.mark.parametrize(
    ("row", "power", "wanted"),
    [("paced", 1.0, [0.0, 0.1875, 0.25, 0.1875, 0.0]), ("sc-sdpo", 0.5, [0.0, 0.4330, 0.5, 0.4330, 0.0])],
)
def test_weights_by_the_pass_rate(row, power, wanted):
    samples = [Sample("r", f"r/{g}", float(i < passed)) for g, passed in enumerate([0, 1, 2, 3, 4]) for i in range(4)]
    weights = SAMPLE_WEIGHTS["pass_rate"](samples, PassRateParams(passed_at=1.0, solved=power, unsolved=power))
    assert weights[::4] == pytest.approx(wanted, abs=5e-5), row


def test_scope_opd_sample_weights():
    """Of two right answers the less likely one weighs more, of two wrong ones the one that the teacher finds likelier."""
    right = [Sample("r", "r/0", mean_student=x) for x in (-0.2, -0.5)]
    wrong = [Sample("r", "r/0", mean_teacher=x) for x in (-0.2, -0.5)]
    weigh = SAMPLE_WEIGHTS["perplexity"]
    right_weights = weigh(right, PerplexityParams(of="student", prefer="unlikely"))
    wrong_weights = weigh(wrong, PerplexityParams(of="teacher", prefer="likely"))
    assert [one / 2 for one in right_weights] == pytest.approx([0.4256, 0.5744], abs=5e-5)
    assert [one / 2 for one in wrong_weights] == pytest.approx([0.5744, 0.4256], abs=5e-5)


def test_hdpo_only_the_prompt_that_nobody_solves_is_distilled():
    here = world(4)
    groups = [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]]
    rollouts = [Rollout((0, 1, 2), group=f"rollouts/{g}", rewards={"judge": r}) for g, own in enumerate(groups) for r in own]
    never = {"op": "pass_rate_within", "params": {"passed_at": 1.0, "at_most": 0.0}, **GRADED}
    term = {"teacher": "tutor", "signal": {"op": "support", "params": {"teacher_topk": 3}}, "objective": "jsd", "when": never}
    ready, _ = prepared(here, recipe(term), rollouts)
    assert [len(one.loss_rows) if one else 0 for one in ready.terms[0].items] == [3, 3, 0, 0, 0, 0]


SRPO = {
    "name": "distil", "teacher": "tutor", "signal": {"op": "support", "params": {"teacher_topk": 3}}, "objective": "jsd",
    "token_weights": [{"op": "exponential", "params": {"of": "teacher_entropy", "slope": -1.0}}, "mean_one"],
    "when": {"op": "reward_within", "params": {"at_most": 0.5}, **GRADED},
}  # fmt: skip


@pytest.mark.parametrize(("rewards", "distils", "reinforces"), [((1.0, 1.0), False, False), ((0.0, 0.0), True, False)])
def test_srpo_routes_right_answers_to_rewards_and_wrong_ones_to_distillation(rewards, distils, reinforces):
    here = world(5)
    group = [Rollout(y, rewards={"judge": r}) for y, r in zip([(0, 1, 2), (2, 2, 1)], rewards, strict=True)]
    for term, moves in ((SRPO, distils), (GRPO, reinforces)):
        assert (float(gradient(here, loss_of(here, recipe(term), group)).abs().max()) > 1e-6) is moves


def test_srpo_uniform_teacher_entropy_gives_weights_of_one():
    here = world(5)
    here.teachers["tutor"].zero_()
    group = [Rollout((0, 1, 2), rewards={"judge": 0.0})]
    plain = {key: value for key, value in SRPO.items() if key != "token_weights"}
    torch.testing.assert_close(
        gradient(here, loss_of(here, recipe(SRPO), group)), gradient(here, loss_of(here, recipe(plain), group)), **CLOSE
    )


@pytest.mark.parametrize("row", ["opsd-compacts-rlvr", "respec"])
def test_only_rollouts_with_a_reward_are_distilled_and_the_mean_is_over_them(row):
    here = world(5)
    plain = {key: SRPO[key] for key in ("teacher", "signal", "objective")}
    routed = plain | {"when": {"op": "reward_within", "params": {"at_least": 1.0}, **GRADED}}
    batch = [Rollout(y, rewards={"judge": r}) for y, r in zip([(0, 1, 2), (2, 2, 1), (1, 1, 0)], (1.0, 0.0, 1.0), strict=True)]
    found, wanted = loss_of(here, recipe(routed), batch), loss_of(here, recipe(plain), [batch[0], batch[2]])
    assert float(wanted.detach()) > 1e-3
    torch.testing.assert_close(found, wanted, **CLOSE)
    torch.testing.assert_close(gradient(here, found), gradient(here, wanted), **CLOSE)
    assert float(loss_of(here, recipe(routed), batch[1:2]).detach()) == 0.0, row


# ---------------------------------------------------------------- tokens


def three_rows(student_entropies=(0.0, 0.0, 0.0), **about) -> TermRows:
    """Rows of one response, of whose tokens the student is certain."""
    none = torch.zeros(3)
    student = StudentRows(none, none, none, none, Observed(torch.tensor(student_entropies), none, none))
    owner_n, places_n = torch.zeros(3, dtype=torch.long), torch.arange(3)
    counts_n = torch.ones(3, dtype=torch.bool)
    return TermRows(student, places_n, owner_n=owner_n, row_n=places_n, counts_n=counts_n, **about)


@pytest.mark.parametrize(
    ("row", "op", "params", "log_ratios", "wanted"),
    [
        ("sdar", "sigmoid", {"centre": 0.0, "width": 0.2}, [0.0, 1.0, -1.0], [0.5, 0.993307, 0.006693]),
        ("edge-opd", "within", {"at_least": 1e-9}, [-1.0, 0.0, 2.0], [0.0, 0.0, 1.0]),
    ],
)
def test_gates_by_how_much_more_the_teacher_expects_a_token(row, op, params, log_ratios, wanted):
    apply = TOKEN_WEIGHTS[op].apply
    assert apply is not None
    rows = three_rows(teacher_sampled_n=torch.tensor(log_ratios))
    weights = apply(rows, torch.ones(3), OPS[op].params.model_validate({"of": "log_ratio", **params}))
    assert weights.tolist() == pytest.approx(wanted, abs=1e-6), row


def test_sdft_skipped_tokens_have_no_gradient_and_the_mean_is_over_the_others():
    here = world(6)
    skip = k1_term() | {"normaliser": "rows", "token_weights": {"op": "positions", "params": {"skip": 1}}}
    slope = gradient(here, loss_of(here, recipe(skip), [Rollout((0, 1, 2))]))
    assert slope[0].abs().max() == 0
    assert prepared(here, recipe(skip), [Rollout((0, 1, 2))])[0].terms[0].divisor == 2


def test_esr_and_prefix_opd_a_prefix_longer_than_the_response_is_all_of_it():
    here = world(6)
    prefix = k1_term(token_weights={"op": "positions", "params": {"first": 257}})
    torch.testing.assert_close(expected(here, prefix), expected(here, k1_term()), **CLOSE)


def test_ta_opd_keeps_the_row_of_the_largest_product():
    """Products 0.40, 0.27 and 0: a third of three rows is the first, although another has the largest divergence."""
    from preceptor.recipes.ops.top_fraction import TopFractionParams
    from preceptor_student.objectives import top_fraction

    kept = top_fraction.apply(three_rows(), torch.tensor([0.8 * 0.5, 0.3 * 0.9, 1.0 * 0.0]), TopFractionParams(fraction=1 / 3))
    assert kept.tolist() == [1.0, 0.0, 0.0]


def test_fire_opd_weights():
    """Teacher entropies 0, 1, 2 and student entropies 2, 1, 0: (1 + c)(1 + u) over its mean."""
    from preceptor.recipes.ops.relative import RelativeParams
    from preceptor.recipes.ops.spec import NoParams
    from preceptor_student.objectives import mean_one, relative

    rows = three_rows(student_entropies=(2.0, 1.0, 0.0), teacher_entropy_n=torch.tensor([0.0, 1.0, 2.0]))
    weight = relative.apply(rows, torch.ones(3), RelativeParams(of="teacher_entropy", towards="small"))
    weight = relative.apply(rows, weight, RelativeParams(of="student_entropy"))
    assert weight.tolist() == pytest.approx([4.0, 2.25, 1.0])
    assert mean_one.apply(rows, weight, NoParams()).tolist() == pytest.approx([1.655172, 0.931034, 0.413793], abs=1e-6)


@pytest.mark.parametrize(("share", "loss"), [(1.0, 0.3681), (0.5, 0.1308)])
def test_taid_target_between_student_and_teacher(share, loss):
    """Student [.5, .5], teacher [.9, .1]: half way the target is [.75, .25]."""
    from preceptor.recipes.ops.soft_targets import SoftTargetsParams
    from preceptor_student.objectives import soft_targets
    from tests.unit.preceptor_student.scoring import support_rows, table_scores

    student, teacher = (torch.tensor([p], dtype=torch.float64).log() for p in ([0.5, 0.5], [0.9, 0.1]))
    student.requires_grad_()
    rows = support_rows(student, table_scores(teacher.numpy(), torch.tensor([0]).numpy(), 2))
    target = torch.tensor([0.75, 0.25]) if share == 0.5 else torch.tensor([0.9, 0.1])
    value = soft_targets.loss(rows, SoftTargetsParams(teacher_share=share))
    assert float(value.detach()) == pytest.approx(loss, abs=5e-5)
    (slope,) = torch.autograd.grad(value.sum(), student)
    assert (-slope[0]).tolist() == pytest.approx(target.tolist(), abs=1e-6)


# ---------------------------------------------------------------- preferences


def pair(student=(0.0, 0.0), reference=(0.0, 0.0), rows=(1, 1)):
    columns = ([torch.tensor([one], dtype=torch.float64) for one in side] for side in zip(student, reference, rows, strict=True))
    return [Responses(*side) for side in columns]


@pytest.mark.parametrize(
    ("row", "beta", "margin", "loss"),
    [("dpkd", 0.2, 0.0, 0.6931), ("warmup-distill", 0.2, 0.0, 0.6931), ("pbsd", 0.1, 0.0, 0.6931), ("pbsd", 0.1, 2.0, 0.5981)],
)
def test_dpo_starts_at_log_two_and_falls_with_the_margin(row, beta, margin, loss):
    from preceptor.recipes.ops.dpo import DpoParams
    from preceptor_student.objectives import dpo

    chosen, rejected = pair(student=(-3.0 + margin, -1.0), reference=(-3.0, -1.0))
    assert float(dpo.loss(chosen, rejected, DpoParams(beta=beta))) == pytest.approx(loss, abs=5e-5), row


@pytest.mark.parametrize(("gap", "loss"), [(0.0, 0.6931), (2.0, 0.1269)])
def test_gad_bradley_terry(gap, loss):
    from preceptor.recipes.ops.bradley_terry import BradleyTerryParams
    from preceptor_student.objectives import bradley_terry

    chosen, rejected = pair(student=(-1.0, -1.0 - gap))
    assert float(bradley_terry.loss(chosen, rejected, BradleyTerryParams())) == pytest.approx(loss, abs=5e-5)


def test_orpo_distill_equal_probabilities():
    from preceptor.recipes.ops.orpo import OrpoParams
    from preceptor_student.objectives import orpo

    chosen, rejected = pair(student=(-2.0, -1.0), rows=(2, 1))
    assert float(orpo.loss(chosen, rejected, OrpoParams())) == pytest.approx(0.693147, abs=1e-6)


@pytest.mark.parametrize("row", ["self-rewarding", "sphere"])
def test_ties_give_no_pair(row):
    term = {"objective": "bradley_terry", "pairs": {"op": "reward_pairs", "params": {}, **GRADED}, "normaliser": "pairs"}
    group = [Rollout((0, 1), rewards={"judge": 3.0}), Rollout((1, 1), rewards={"judge": 3.0})]
    assert prepared(world(length=2), recipe(term), group)[0].terms[0].pairs == (), row


def test_lgr_without_lookahead_is_plain_distillation():
    here = toy()
    assert sum(p * a for p, a in zip(S, coefficients(here, k1_term()), strict=True)) == pytest.approx(-0.4982, abs=5e-5)
