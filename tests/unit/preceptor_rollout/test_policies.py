"""Behaviour policies against exact distributions: two Markov chains over five tokens, every response of two tokens enumerated.

Each chi-square test fails by chance once in 10^5 runs; seeds are fixed, so it does so always or never.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from preceptor.errors import InvalidArgument
from preceptor.philox import FURTHER_DRAW, WHOLE, rollout_coin, rollout_sample_seed, rollout_uniform, teacher_uniform
from preceptor.recipes.behaviour import BehaviourSpec, behaviour_from_json
from preceptor.recipes.policies import POLICIES as SPECS
from preceptor.recipes.policies.mixture import MixtureParams
from preceptor.recipes.schema import OpUse
from preceptor.types import Provenance
from preceptor_rollout.guide import policy_of
from preceptor_rollout.policies import POLICIES
from preceptor_rollout.policies.base import Advice, Chance, Proposed, at
from preceptor_rollout.policies.mixture import Mixture
from preceptor_rollout.policies.trust_region import blend, largest_share
from preceptor_rollout.sampling import SamplingRule, read_rows
from preceptor_serving.models.draw import draw
from preceptor_serving.models.topk import topk_lowest_id
from tests.unit.preceptor_rollout.drawing import request

SIZE, DRAWS, LENGTH, START = 5, 20_000, 2, 5
TABLES = np.random.default_rng(5).dirichlet(np.full(SIZE, 0.8), size=(2, SIZE + 1))  # [model, token before, token]
STUDENT, TEACHER = np.log(TABLES[0] + 1e-3), np.log(TABLES[1] + 1e-3)
RULES = [SamplingRule(), SamplingRule(temperature=1.4, top_p=0.9, top_k=4)]
CASES = [
    ("student", {}),
    ("teacher", {}),
    ("mixture", {"coefficient": 0.3}),
    ("mixture", {"coefficient": 0.3, "per": "sequence"}),
    ("mixture", {"coefficient": 1.0}),
    ("mixture", {"coefficient": 0.0}),
    ("takeover", {"after_tokens": 1.0}),
    ("takeover", {"after_tokens": 1.0, "first": "teacher"}),
    ("speculative", {"accept_topk": 2}),
    ("speculative", {"accept_topk": SIZE}),
    ("trust_region", {"radius": 0.05, "teacher_topk": SIZE}),
    ("trust_region", {"radius": 0.3, "teacher_topk": 2}),
    ("trust_region", {"radius": 50.0, "teacher_topk": SIZE}),
    ("best_of_n", {"n": 3, "teacher_topk": SIZE}),
    ("best_of_n", {"n": 4, "teacher_topk": 2}),
]


# ---------------------------------------------------------------- exact, from the definitions alone


def softmax(logits, temperature=1.0):
    weights = [math.exp(value / temperature) for value in logits]
    return [weight / sum(weights) for weight in weights]


def as_drawn(policy, rule):
    order = sorted(range(SIZE), key=lambda token: (-policy[token], token))[: rule.top_k or SIZE]
    total, reached, kept = sum(policy[token] for token in order), 0.0, []
    for token in order:
        if kept and reached >= rule.top_p * total:
            break
        kept.append(token)
        reached += policy[token]
    return [policy[token] / reached if token in kept else 0.0 for token in range(SIZE)]


def path(student, teacher, share):
    weights = [s ** (1 - share) * t**share if s > 0 else 0.0 for s, t in zip(student, teacher, strict=True)]
    return [weight / sum(weights) for weight in weights]


def trust_region(student, teacher, top, radius):
    tail_s, tail_t = (sum(one[y] for y in range(SIZE) if y not in top) for one in (student, teacher))
    completed = [teacher[y] if y in top else student[y] * tail_t / tail_s if tail_s else 0.0 for y in range(SIZE)]

    def moved(share):
        mixed = path(student, completed, share)
        return sum(m * math.log(m / s) for m, s in zip(mixed, student, strict=True) if m > 0)

    low, high = (1.0, 1.0) if moved(1.0) <= radius else (0.0, 1.0)
    for _ in range(60):
        low, high = ((low + high) / 2, high) if moved((low + high) / 2) <= radius else (low, (low + high) / 2)
    return path(student, completed, low)


def best_of_n(student, top, n):
    chosen = [0.0] * SIZE
    for drawn in itertools.product(range(SIZE), repeat=n):
        ranked = [top.index(y) if y in top else SIZE for y in drawn]
        chosen[drawn[ranked.index(min(ranked))]] += math.prod(student[y] for y in drawn)
    return chosen


def next_token(name, params, student, teacher, position):
    """The distribution of one token; `mixture` per sequence is not of this form."""
    top = sorted(range(SIZE), key=lambda y: (-teacher[y], y))[: params.get("accept_topk", params.get("teacher_topk", SIZE))]
    match name:
        case "student":
            return student
        case "teacher":
            return teacher
        case "mixture":
            a = params["coefficient"]
            return [a * t + (1 - a) * s for s, t in zip(student, teacher, strict=True)]
        case "takeover":
            begins = position < params["after_tokens"]
            return teacher if begins == (params.get("first") == "teacher") else student
        case "speculative":
            refused = sum(student[y] for y in range(SIZE) if y not in top)
            return [(student[y] if y in top else 0.0) + refused * teacher[y] for y in range(SIZE)]
        case "trust_region":
            return trust_region(student, teacher, top, params["radius"])
        case _:
            return best_of_n(student, top, params["n"])


def models_at(before, rule):
    student, teacher = (softmax(table[before], rule.temperature) for table in (STUDENT, TEACHER))
    return as_drawn(student, rule), teacher


def response_probability(name, params, rule, response):
    def chain(step):
        before = (START, *response[:-1])
        return math.prod(step(*models_at(b, rule), at)[y] for at, (b, y) in enumerate(zip(before, response, strict=True)))

    if params.get("per") == "sequence":
        a = params["coefficient"]
        return a * chain(lambda _, teacher, __: teacher) + (1 - a) * chain(lambda student, _, __: student)
    return chain(lambda student, teacher, position: next_token(name, params, student, teacher, position))


# ---------------------------------------------------------------- drawn


def advice(policy, before, proposals, chance, temperature):
    """What a teacher service answers."""
    rows = (torch.tensor(TEACHER[before]).float() / temperature).log_softmax(-1)
    values, ids = topk_lowest_id(rows, policy.ask.topk) if policy.ask.topk else (rows[:, :0], before[:, None][:, :0])
    drawn = draw(rows, teacher_uniform(chance.sample_seed_b, chance.position_b, 1))[:, 0]
    tail = rows.scatter(1, ids, -torch.inf).logsumexp(-1)
    return Advice(ids, values, tail, drawn, at(rows, drawn), at(rows, proposals))


def responses(name, params, rule, seed=3):
    """Ids, log-probabilities and provenance, [draws, position]."""
    policy = POLICIES[name](SPECS[name].params(**params))
    before, columns = torch.full((DRAWS,), START), []
    for position in range(LENGTH):
        chance = Chance(seed, 0, np.arange(DRAWS), np.zeros(DRAWS, np.int64), np.full(DRAWS, position))
        read = read_rows(torch.tensor(STUDENT[before]).float(), chance.token_b, rule, SIZE)
        ids, behaviour, who = read.ids_b.clone(), read.own_b.clone(), np.full(DRAWS, Provenance.STUDENT)
        asked = np.flatnonzero(policy.asks(chance))
        if len(asked):
            proposed, few = Proposed(read.log_probs_bt[asked], read.ids_b[asked]), chance.at(asked)
            told = advice(policy, before[asked], read.ids_b[asked], few, rule.temperature)
            choice = policy.choose(proposed, told, few)
            ids[asked], behaviour[asked], who[asked] = choice.ids_b, choice.behaviour_b.float(), choice.provenance_b
        columns.append((ids.numpy(), behaviour.numpy(), who))
        before = ids
    return tuple(np.stack(column, 1) for column in zip(*columns, strict=True))


def chi_square_limit(freedom):
    """Exceeded by chance once in 10^5 (Wilson and Hilferty)."""
    return freedom * (1 - 2 / (9 * freedom) + 4.265 * math.sqrt(2 / (9 * freedom))) ** 3


@pytest.mark.parametrize("rule", RULES, ids=["plain", "truncated"])
@pytest.mark.parametrize(("name", "params"), CASES, ids=str)
def test_responses_follow_the_exact_distribution_and_so_do_their_log_probabilities(name, params, rule):
    ids, behaviour, who = responses(name, params, rule)
    every = list(itertools.product(range(SIZE), repeat=LENGTH))
    expected = np.array([response_probability(name, params, rule, response) for response in every]) * DRAWS
    assert expected.sum() == pytest.approx(DRAWS, rel=1e-6)
    counts = np.bincount(ids @ [SIZE, 1], minlength=len(every))
    assert counts[expected == 0].sum() == 0
    rare = expected < 5
    cells = [*zip(counts[~rare], expected[~rare], strict=True), (counts[rare].sum(), max(expected[rare].sum(), 1e-9))]
    cells = [(count, wanted) for count, wanted in cells if wanted > 1]
    assert sum((count - wanted) ** 2 / wanted for count, wanted in cells) < chi_square_limit(len(cells) - 1)
    for response, index in zip(*np.unique(ids, axis=0, return_index=True), strict=True):
        for position, (before, token) in enumerate(zip((START, *response[:-1]), response, strict=True)):
            student, teacher = models_at(before, rule)
            exact = next_token(name, params, student, teacher, position)
            if params.get("per") == "sequence":
                exact = teacher if who[index, 0] == Provenance.TEACHER else student
            assert behaviour[index, position] == pytest.approx(math.log(exact[token]), abs=2e-5)


def test_speculation_keeps_what_is_listed_and_replaces_nothing_else():
    ids, _, who = responses("speculative", {"accept_topk": 2}, SamplingRule())
    first = {y for y in range(SIZE) if (TEACHER[START] > TEACHER[START, y]).sum() < 2}
    assert set(ids[who[:, 0] == Provenance.ACCEPTED, 0].tolist()) <= first
    assert set(np.unique(who)) == {Provenance.ACCEPTED, Provenance.REPLACED}
    own, _, _ = responses("student", {}, SamplingRule())
    everything, _, who = responses("speculative", {"accept_topk": SIZE}, SamplingRule())
    assert np.array_equal(own, everything)
    assert (who == Provenance.ACCEPTED).all()


def test_a_trust_region_of_nothing_and_a_mixture_of_nothing_are_the_student_to_the_token():
    own = responses("student", {}, SamplingRule())
    for name, params in (("trust_region", {"radius": 0.0}), ("mixture", {"coefficient": 0.0})):
        assert all(np.array_equal(a, b) for a, b in zip(own, responses(name, params, SamplingRule()), strict=True))


@pytest.mark.parametrize(
    ("radius", "share", "mixed"),
    [(0.05, 0.329, [0.471, 0.338, 0.191]), (0.2, 0.611, [0.351, 0.343, 0.306]), (0.585, 1.0, [0.2, 0.3, 0.5])],
)
def test_trb_numbers_of_the_catalogue(radius, share, mixed):
    student, teacher = (torch.tensor([row], dtype=torch.float64).log() for row in ([0.6, 0.3, 0.1], [0.2, 0.3, 0.5]))
    found = largest_share(student, teacher, radius)
    assert found.item() == pytest.approx(share, abs=1e-3)
    assert blend(student, teacher, found).exp()[0].tolist() == pytest.approx(mixed, abs=1e-3)


# ---------------------------------------------------------------- specs and numbers


def test_every_spec_has_its_policy_and_every_policy_its_spec():
    assert SPECS.keys() == POLICIES.keys()
    for name, spec in SPECS.items():
        policy = POLICIES[name](spec.params())
        assert spec.asks_teacher == (policy.ask.draw or policy.ask.topk > 0)


def test_ramps_are_evaluated_at_the_step_that_the_rollouts_are_for():
    ramp = {"schedule": "linear", "start": 1.0, "end": 0.0, "steps": 4}
    text = BehaviourSpec(policy=OpUse(op="mixture", params={"coefficient": ramp}), teacher="t").to_json()
    policies = [policy_of(request({0: [1]}, policy_json=text, step=step)) for step in (0, 1, 4)]
    assert policies == [Mixture(MixtureParams(coefficient=share)) for share in (1.0, 0.75, 0.0)]


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("{", "recipe"),
        ('{"policy": {"op": "speculativ"}, "teacher": "t"}', "policy_json.policy"),
        ('{"policy": {"op": "mixture", "params": {"coefficient": 2}}, "teacher": "t"}', "policy_json.policy.params.coefficient"),
        ('{"policy": {"op": "mixture"}}', "policy_json.teacher"),
        ('{"policy": {"op": "student"}, "teacher": "t"}', "policy_json.teacher"),
        ('{"policy": {"op": "mixture"}, "teacher": "t", "url": "x"}', "policy_json.url"),
    ],
)
def test_a_policy_that_is_none_is_the_callers_mistake_by_field(text, field):
    with pytest.raises(InvalidArgument) as refused:
        behaviour_from_json(text)
    assert refused.value.field == field


def test_numbers_of_one_token_are_independent_and_none_is_used_twice():
    at_token = (9, 1, np.arange(5000), 0, 3)
    columns = [rollout_uniform(*at_token), rollout_coin(*at_token), rollout_coin(*at_token[:4], WHOLE)]
    columns.append(rollout_uniform(*at_token[:4], 3 + FURTHER_DRAW))
    columns.append(rollout_sample_seed(*at_token[:4]) / 2.0**64)
    correlation = np.corrcoef(columns) - np.eye(len(columns))
    assert np.abs(correlation).max() < 0.07  # 5 standard errors
