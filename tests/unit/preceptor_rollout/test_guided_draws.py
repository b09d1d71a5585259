"""A unit that grows with a privileged teacher in its loop, against exact distributions on five tokens.

The two Markov chains of test_policies.py stand for the models, so that every response of two tokens is enumerated. Under test is
everything between them: whose context is asked about, at which row, under which ramp, and what becomes of the answer. Each
chi-square test fails by chance once in 10^5 runs; seeds are fixed, so it does so always or never.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from preceptor import wire
from preceptor.philox import teacher_uniform
from preceptor.recipes.behaviour import BehaviourSpec
from preceptor.recipes.schema import OpUse
from preceptor.types import Grade, IdLogprobs, ModelRef, RaggedLogprobs, Rows, as_ids
from preceptor_proto.v1 import rollout_pb2, teacher_pb2
from preceptor_rollout import batch, chunks
from preceptor_rollout.growth import Growth
from preceptor_rollout.guide import Question
from preceptor_rollout.sampling import SamplingRule
from preceptor_serving.models.draw import draw
from preceptor_serving.models.topk import topk_lowest_id
from tests.unit.preceptor_rollout.drawing import request
from tests.unit.preceptor_rollout.test_policies import (
    LENGTH,
    SIZE,
    START,
    STUDENT,
    TEACHER,
    as_drawn,
    chi_square_limit,
    next_token,
    softmax,
)

DRAWS, STEP = 600, 2
TOLD = 3  # the end of what the teacher reads instead of START
RULE = SamplingRule(temperature=1.4, top_p=0.9, top_k=4)
RAMP = {"schedule": "linear", "start": 0.5, "end": 0.1, "steps": 4}  # 0.3 at the step that rollouts of index 2 make
CASES = [
    ("mixture", {"coefficient": RAMP}, {"coefficient": 0.3}),
    ("trust_region", {"radius": RAMP, "teacher_topk": 3}, {"radius": 0.3, "teacher_topk": 3}),
    ("speculative", {"accept_topk": 2}, {"accept_topk": 2}),
    ("best_of_n", {"n": 3, "teacher_topk": 3}, {"n": 3, "teacher_topk": 3}),
]


class Chain:
    """Stands in for `Decoder`: the next logits of a Markov chain."""

    takes_more, width = True, 1

    def __init__(self, model: Any) -> None: ...

    def join(self, prompts, samples):
        last = np.repeat([int(prompt[-1]) for prompt in prompts], list(samples))
        return torch.tensor(STUDENT[last]).float()

    def prefix(self, logits_bv):
        return None

    def next(self, ids_b):
        return torch.tensor(STUDENT[ids_b.numpy()]).float()

    def keep(self, rows): ...


STUDENT_SERVED: Any = SimpleNamespace(
    model=None,
    info=SimpleNamespace(model=ModelRef("chain")),
    eos_ids=(),
    vocabulary=SimpleNamespace(size=SIZE, decode=str, text=str),
)


def answered(question: teacher_pb2.ScoreRequest) -> teacher_pb2.ScoreReply:
    """What a teacher service says of the row behind each sequence."""
    reply = teacher_pb2.ScoreReply()
    for item in question.items:
        sequence, want = wire.sequence_from_proto(item.sequence), wire.want_from_proto(item.want)
        assert want.window is not None
        assert (want.window.start, want.window.end) == (sequence.row_count, sequence.row_count)
        logits = torch.tensor(TEACHER[int(sequence.ids[-1])][None]).float()
        rows = (logits / want.temperature).log_softmax(-1)
        values, ids = topk_lowest_id(rows, want.topk) if want.topk else (rows[:, :0], torch.zeros(1, 0, dtype=torch.int64))
        own = draw(rows, teacher_uniform(want.sample_seed, sequence.row_count, want.samples)[None]) if want.samples else None
        asked = want.candidates
        made = Rows(
            sequence.row_count,
            np.zeros(1, np.uint8),
            tail=rows.scatter(1, ids, -torch.inf).logsumexp(-1).numpy() if want.topk else None,
            topk=IdLogprobs(ids.numpy().astype(np.uint32), values.numpy()) if want.topk else None,
            candidates=None if asked is None else RaggedLogprobs(asked.offsets, rows[0, asked.ids.astype(np.int64)].numpy()),
            samples=None if own is None else IdLogprobs(own.numpy().astype(np.uint32), rows.gather(1, own).numpy()),
            has_next=True,
        )
        reply.results.add().rows.CopyFrom(wire.rows_to_proto(made, Grade.F32, SIZE)[0])
    return reply


def message_of(name: str, params: dict[str, Any]) -> rollout_pb2.GenerateRequest:
    policy = BehaviourSpec(policy=OpUse(op=name, params=params), teacher="big").to_json()
    bent = {"max_new_tokens": LENGTH, "temperature": RULE.temperature, "top_p": RULE.top_p, "top_k": RULE.top_k}
    message = request({0: [1, START]}, DRAWS, bent, policy_json=policy, step=STEP)
    message.prompts[0].teacher_context.CopyFrom(wire.ids_to_proto(as_ids([0, 4, TOLD])))
    return message


def drawn(message: rollout_pb2.GenerateRequest) -> tuple[np.ndarray, np.ndarray]:
    """Ids and log-probabilities as drawn, [draws, position], in the order of the rollouts."""
    steps = Growth(STUDENT_SERVED, message, 64, 10**6).steps()
    found: list[chunks.Chunk] = []
    due = next(steps, None)
    while due is not None:
        if isinstance(due, Question):
            due = steps.send(answered(due.request))
            continue
        found += due
        due = next(steps, None)
    rollouts = [wire.rollout_from_proto(chunks.joined([one], chunks.turn_of([one], message.prompts[0].context))) for one in found]
    rollouts.sort(key=lambda one: one.id.sample)
    ids = np.stack([one.sequence.response_ids.astype(np.int64) for one in rollouts])
    return ids, np.stack([np.asarray(one.behaviour.logprob_behaviour) for one in rollouts])


def check_pairs(ids: np.ndarray, probability: Callable[[int, int], float]) -> None:
    """Chi-square of all responses of two tokens; rare ones are counted together."""
    every = list(itertools.product(range(SIZE), repeat=LENGTH))
    expected = np.array([probability(one, two) for one, two in every]) * DRAWS
    counts = np.bincount(ids @ [SIZE, 1], minlength=len(every))
    often = expected >= 5
    cells = [*zip(counts[often], expected[often], strict=True), (counts[~often].sum(), expected[~often].sum())]
    cells = [(count, wanted) for count, wanted in cells if wanted > 1]
    assert sum((count - wanted) ** 2 / wanted for count, wanted in cells) < chi_square_limit(len(cells) - 1)


@pytest.mark.parametrize(("name", "params", "plain"), CASES, ids=[name for name, *_ in CASES])
def test_what_a_privileged_teacher_guides_follows_the_exact_distribution(monkeypatch, name, params, plain):
    monkeypatch.setattr(batch, "Decoder", Chain)
    ids, behaviour = drawn(message_of(name, params))
    assert ids.shape == (DRAWS, LENGTH)

    def exact(position: int, own: int, taught: int) -> list[float]:
        student, teacher = (softmax(table[at], RULE.temperature) for table, at in ((STUDENT, own), (TEACHER, taught)))
        return next_token(name, plain, as_drawn(student, RULE), teacher, position)

    first, later = exact(0, START, TOLD), [exact(1, token, token) for token in range(SIZE)]
    check_pairs(ids, lambda one, two: first[one] * later[one][two])
    logs = [[math.log(first[one]), math.log(later[one][two])] for one, two in ids.tolist()]
    assert np.abs(behaviour - logs).max() < 2e-5
    unprivileged = exact(0, START, START)
    assert max(abs(a - b) for a, b in zip(first, unprivileged, strict=True)) > 0.05, "what the teacher reads makes a difference"


# ---------------------------------------------------------------- turns

ONCE = {"coefficient": 0.3, "per": "sequence"}
TAKEN_OVER = {"after_tokens": 1.0, "first": "teacher"}
OF_TURNS = [
    pytest.param("mixture", ONCE, ONCE, id="mixture per sequence"),
    pytest.param("teacher", {}, {}, id="teacher"),
    *(pytest.param(*case, id=case[0], marks=pytest.mark.slow) for case in (*CASES, ("takeover", TAKEN_OVER, TAKEN_OVER))),
]


def said(reply: int) -> int:
    """What an environment of one token answers to a reply of one token."""
    return (2 * reply + 1) % SIZE


def next_turn(message: rollout_pb2.GenerateRequest, replies: list[int]) -> rollout_pb2.GenerateRequest:
    """Every rollout behind its own answer, as an episode asks for it."""
    turn = rollout_pb2.GenerateRequest()
    turn.CopyFrom(message)
    del turn.prompts[:]
    for sample, reply in enumerate(replies):
        one = turn.prompts.add(samples=1, first_sample=sample, first_row=1)
        for ours, theirs in (
            (one.context, message.prompts[0].context),
            (one.teacher_context, message.prompts[0].teacher_context),
        ):
            ours.CopyFrom(wire.ids_to_proto([*wire.ids_from_proto(theirs), reply, said(reply)]))
    return turn


@pytest.mark.parametrize(("name", "params", "plain"), OF_TURNS)
def test_two_turns_with_an_answer_between_them_follow_the_exact_distribution(monkeypatch, name, params, plain):
    """Draws of both turns are independent, and what is decided once for a rollout is decided for both."""
    monkeypatch.setattr(batch, "Decoder", Chain)
    message = message_of(name, params)
    message.sampling.max_new_tokens = 1
    first_b1, first_log_b1 = drawn(message)
    message.sampling.max_new_tokens = LENGTH
    second_b1, second_log_b1 = drawn(next_turn(message, first_b1[:, 0].tolist()))

    def both(own: int, taught: int) -> tuple[list[float], list[float]]:
        student, teacher = (softmax(table[at], RULE.temperature) for table, at in ((STUDENT, own), (TEACHER, taught)))
        return as_drawn(student, RULE), teacher

    def ways_of(one: int, two: int) -> list[tuple[float, float]]:
        """(share, probability) of each way in which the pair comes about."""
        turns = [(both(START, TOLD), one), (both(said(one), said(one)), two)]
        if plain.get("per") == "sequence":
            writers = ((1 - plain["coefficient"], 0), (plain["coefficient"], 1))
            return [(share, math.prod(models[writer][token] for models, token in turns)) for share, writer in writers]
        return [(1.0, math.prod(next_token(name, plain, *models, at)[token] for at, (models, token) in enumerate(turns)))]

    ids = np.concatenate([first_b1, second_b1], 1)
    check_pairs(ids, lambda one, two: sum(share * chance for share, chance in ways_of(one, two)))
    logged = first_log_b1[:, 0] + second_log_b1[:, 0]
    for (one, two), log in zip(ids.tolist(), logged.tolist(), strict=True):
        assert min(abs(math.log(chance) - log) for _, chance in ways_of(one, two) if chance) < 4e-5
