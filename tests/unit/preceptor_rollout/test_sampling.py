"""What is drawn, and how likely it was, against exact distributions on a tiny vocabulary."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from preceptor.philox import rollout_uniform
from preceptor_rollout.sampling import Reading, SamplingRule, likeliest, read_rows

LOGITS = torch.tensor([2.0, 0.5, 2.0, -1.0, 0.0, 1.0, -0.5, 4.0])  # the last row of the head stands for no token
SIZE = 7
DRAWS = 20_000
CHI2_LIMIT = {1: 19.5, 2: 23.0, 3: 25.9, 4: 28.5, 5: 30.9, 6: 33.1}  # exceeded by chance once in 10^5, by degrees of freedom
RULES = [
    SamplingRule(),
    SamplingRule(temperature=0.5),
    SamplingRule(temperature=2.5),
    SamplingRule(top_k=3),
    SamplingRule(top_p=0.7),
    SamplingRule(temperature=1.5, top_p=0.8, top_k=5),
]


def policy_of(read: Reading) -> torch.Tensor:
    return read.policy_bt.gather(1, read.ids_b[:, None])[:, 0]


def exact(logits: list[float], rule: SamplingRule) -> tuple[list[float], list[float]]:
    """(policy, behaviour) of each token as plain probabilities, from the definition alone."""
    weights = [math.exp(value / rule.temperature) for value in logits]
    policy = [weight / sum(weights) for weight in weights][:SIZE]
    order = sorted(range(SIZE), key=lambda token: (-policy[token], token))[: rule.top_k or SIZE]
    total, reached, kept = sum(policy[token] for token in order), 0.0, []
    for token in order:
        if kept and rule.top_p < 1 and reached >= rule.top_p * total:
            break
        kept.append(token)
        reached += policy[token]
    return policy, [policy[token] / reached if token in kept else 0.0 for token in range(SIZE)]


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_draws_follow_the_exact_distribution(rule):
    policy, behaviour = exact(LOGITS.tolist(), rule)
    uniform = rollout_uniform(11, 0, np.arange(DRAWS), 0, 0)
    drawn = read_rows(LOGITS.expand(DRAWS, -1), uniform, rule, SIZE)
    counts = np.bincount(drawn.ids_b.numpy(), minlength=SIZE)
    possible = [token for token in range(SIZE) if behaviour[token] > 0]
    assert counts[[token for token in range(SIZE) if behaviour[token] == 0]].sum() == 0
    expected = np.array([behaviour[token] for token in possible]) * DRAWS
    chi2 = ((counts[possible] - expected) ** 2 / expected).sum()
    assert chi2 < CHI2_LIMIT[len(possible) - 1]
    for token in possible:
        at = (drawn.ids_b == token).nonzero()[0]
        assert policy_of(drawn)[at].item() == pytest.approx(math.log(policy[token]), abs=1e-5)
        assert drawn.own_b[at].item() == pytest.approx(math.log(behaviour[token]), abs=1e-5)


@pytest.mark.parametrize("temperature", [1e-29, 1e-45, 5e-324])
def test_the_coldest_temperatures_draw_the_likeliest(temperature: float):
    drawn = read_rows(LOGITS[None], np.array([0.999]), SamplingRule(temperature=temperature), SIZE)
    assert drawn.ids_b.tolist() == [2]  # two are equally likely, and the number is high
    assert drawn.own_b.tolist() == pytest.approx([-math.log(2)], abs=1e-6)


def test_temperature_0_takes_the_first_of_the_likeliest_with_certainty():
    drawn = read_rows(LOGITS[None], np.array([0.999]), SamplingRule(temperature=0.0), SIZE)
    assert (drawn.ids_b.item(), drawn.own_b.item()) == (0, 0.0)
    assert policy_of(drawn).item() == pytest.approx(LOGITS.log_softmax(-1)[0].item(), abs=1e-6)


def test_without_truncation_behaviour_is_policy_to_the_bit():
    drawn = read_rows(LOGITS[None, :SIZE], np.array([0.3]), SamplingRule(temperature=0.7), SIZE)
    assert torch.equal(policy_of(drawn), drawn.own_b)


def test_top_ids_are_the_likeliest_real_tokens_ties_by_lower_id():
    drawn = read_rows(LOGITS[None], np.array([0.5]), SamplingRule(), SIZE)
    assert likeliest(drawn.policy_bt, 3).tolist() == [[0, 2, 5]]


def test_top_p_cuts_a_tie_by_the_lower_id():
    drawn = read_rows(torch.zeros(64, 4), np.linspace(0, 1 - 2**-53, 64), SamplingRule(top_p=0.4), 4)
    assert set(drawn.ids_b.tolist()) == {0, 1}


@given(
    logits=st.lists(st.floats(-30, 30, width=32), min_size=2, max_size=12),
    u=st.one_of(st.just(1 - 2**-53), st.floats(0, 1, exclude_max=True)),
    top_p=st.floats(0.01, 1),
    top_k=st.integers(0, 12),
    temperature=st.floats(0.05, 5),
)
def test_the_drawn_token_is_always_one_that_can_be_drawn(logits, u, top_p, top_k, temperature):
    rule = SamplingRule(temperature, top_p, top_k)
    drawn = read_rows(torch.tensor([logits]), np.array([u]), rule, len(logits))
    policy, behaviour = policy_of(drawn).item(), drawn.own_b.item()
    assert 0 <= drawn.ids_b.item() < len(logits)
    assert math.isfinite(behaviour)
    assert policy - 1e-5 <= behaviour <= 1e-5
    if top_k:
        assert drawn.ids_b.item() in likeliest(drawn.policy_bt, min(top_k, len(logits)))[0].tolist()
