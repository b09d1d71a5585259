"""The reference loop: draws that stand alone, losses that mean what they say, steps that repeat to the bit, and learning."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch

from examples.tiny import task
from examples.tiny.decode import accuracy, load_model, text_of
from examples.tiny.tokenizer import EOS_ID
from examples.tiny.try_opd import Permuted, Verbal, batches
from tests.reference.opd_loop import Settings, distil, generate, k1_policy_gradient, reverse_kl_tail, score
from tests.reference.philox import philox4x32, uniform

SETTINGS = Settings(seed=7, samples_per_prompt=2)
PROBLEMS = task.load("distil")[:8]
PROMPTS = next(batches(PROBLEMS, 8))


@pytest.fixture(scope="module")
def pair():
    torch.set_num_threads(1)
    return load_model("teacher").requires_grad_(False), load_model("student")


@pytest.fixture(scope="module")
def scored(pair):
    teacher, student = pair
    rollouts = generate(student, PROMPTS, 0, SETTINGS)
    with torch.no_grad():
        return rollouts, score(student, rollouts), score(teacher, rollouts)


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [  # the known-answer file of the Random123 distribution
        ([0] * 4, [0] * 2, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ([0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344], [0xA4093822, 0x299F31D0], "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)
def test_philox_gives_the_published_words(counter, key, words):
    assert " ".join(f"{word:08x}" for word in philox4x32(counter, key)) == words


def test_uniform_numbers_are_spread_over_the_unit_interval():
    numbers = uniform(2**63 + 5, 3, np.arange(4000), 1, 9)
    assert numbers.min() >= 0
    assert numbers.max() < 1
    assert np.histogram(numbers, 10, (0, 1))[0] == pytest.approx(np.full(10, 400), abs=100)
    assert len({*numbers, *uniform(2**63 + 5, 3, np.arange(4000), 1, 10)}) == 8000


def test_a_rollout_is_drawn_the_same_alone_and_in_a_batch(pair):
    _, student = pair
    together = generate(student, PROMPTS, 0, SETTINGS)
    for index, ids in list(PROMPTS.items())[:3]:
        alone = generate(student, {index: ids}, 0, SETTINGS)
        rows = together.prompts_B == index
        for one, other, valid in zip(alone.response_BR, together.response_BR[rows], alone.valid_BR, strict=True):
            length = int(valid.sum())
            assert one[:length].tolist() == other[:length].tolist()


def test_a_response_ends_with_its_first_eos(scored):
    rollouts, _, _ = scored
    for ids, valid in zip(rollouts.response_BR.tolist(), rollouts.valid_BR.tolist(), strict=True):
        assert valid == [EOS_ID not in ids[:r] for r in range(len(ids))]


def test_scores_after_the_fact_are_those_that_drew_the_tokens(pair, scored):
    rollouts, student_BRV, _ = scored
    top = student_BRV.topk(SETTINGS.top_k)
    recorded = student_BRV.gather(-1, rollouts.top_ids_BRk)
    assert (recorded - top.values)[rollouts.valid_BR].abs().max() < 1e-4


def test_a_teacher_that_is_the_student_gives_no_loss(scored):
    rollouts, student_BRV, _ = scored
    assert reverse_kl_tail(student_BRV, student_BRV, rollouts, SETTINGS).abs().max() < 1e-6
    assert k1_policy_gradient(student_BRV, student_BRV, rollouts, SETTINGS).abs().max() == 0


def test_the_tail_bucket_makes_a_lower_bound_that_closes_with_k(scored):
    rollouts, student_BRV, teacher_BRV = (x.double() if torch.is_tensor(x) else x for x in scored)
    exact = (student_BRV.exp() * (student_BRV - teacher_BRV)).sum(-1)
    gaps = [exact - reverse_kl_tail(student_BRV, teacher_BRV, rollouts, replace(SETTINGS, top_k=k)) for k in (1, 8, 200)]
    assert all((gap > -1e-9).all() for gap in gaps)
    assert gaps[0].mean() > gaps[1].mean() > gaps[2].mean() > 0
    assert gaps[2].max() < 1e-3


def test_three_steps_repeat_to_the_bit_and_change_the_student(pair):
    teacher, start = pair

    def run(objective):
        student = load_model("student")
        metrics = list(islice(distil(student, teacher, batches(PROBLEMS, 4), objective, SETTINGS), 3))
        return metrics, torch.cat([p.detach().flatten() for p in student.parameters()])

    begin = torch.cat([p.detach().flatten() for p in start.parameters()])
    ends = {}
    for objective in (reverse_kl_tail, k1_policy_gradient):
        (first, weights), (second, again) = run(objective), run(objective)
        assert first == second
        assert torch.equal(weights, again)
        assert not torch.equal(weights, begin)
        ends[objective] = weights
    assert not torch.equal(*ends.values())


def test_permuted_scores_are_the_same_rows_in_another_place(scored):
    rollouts, student_BRV, teacher_BRV = scored
    seen = []

    def spy(_student, teacher, *_):
        seen.append(teacher)
        return teacher

    Permuted(spy, torch.Generator().manual_seed(0))(student_BRV, teacher_BRV, rollouts, SETTINGS)
    valid = rollouts.valid_BR
    mixed, straight = seen[0][valid].sum(-1), teacher_BRV[valid].sum(-1)
    assert torch.equal(mixed.sort().values, straight.sort().values)
    assert (mixed != straight).float().mean() > 0.9


def test_a_verbal_grade_is_ten_for_the_right_response_and_less_for_others(pair, scored):
    teacher, _ = pair
    rollouts, _, _ = scored
    grades = Verbal(teacher, PROBLEMS, torch.Generator(), shuffled=False).grades(rollouts)
    for grade, prompt, ids in zip(grades.tolist(), rollouts.prompts_B.tolist(), rollouts.response_BR.tolist(), strict=True):
        right = text_of(ids[: ids.index(EOS_ID)] if EOS_ID in ids else ids) == PROBLEMS[prompt].worked
        assert (grade == 10) == right
        assert 0 <= grade <= 10
    assert len(set(grades.tolist())) > 1


@pytest.mark.slow
def test_a_few_steps_teach_and_permuted_scores_do_not(pair):
    teacher, start = pair
    heldout, problems = task.load("heldout")[:128], task.load("distil")[:320]
    settings = Settings()
    before = accuracy(start, heldout)
    after = {}
    for name, objective in {
        "scores": reverse_kl_tail,
        "permuted": Permuted(reverse_kl_tail, torch.Generator().manual_seed(0)),
    }.items():
        student = load_model("student")
        list(islice(distil(student, teacher, batches(problems, 32), objective, settings), 10))
        after[name] = accuracy(student, heldout)
    assert after["scores"] > before > after["permuted"]
