"""Proposals that go to the teacher in blocks: the draws of one at a time, and the exact distribution of SKD."""

from __future__ import annotations

import itertools
import math
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from preceptor import wire
from preceptor.errors import Unsupported
from preceptor.philox import teacher_uniform
from preceptor.recipes.behaviour import BehaviourSpec
from preceptor.recipes.schema import OpUse
from preceptor.types import Grade, IdLogprobs, ModelRef, Provenance, Rows, Validity
from preceptor_proto.v1 import teacher_pb2
from preceptor_rollout import decoding
from preceptor_rollout.growth import Growth
from preceptor_rollout.guide import Question
from preceptor_serving.models.draw import draw
from tests.unit.preceptor_rollout.drawing import request
from tests.unit.preceptor_rollout.test_policies import chi_square_limit

SIZE, DRAWS, LENGTH, KEPT = 5, 3_000, 3, 2
PROMPTS = {0: [1, 3], 1: [2]}  # of two lengths, so that a batch is padded from the start


def model(seed: int) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1}
    shape: dict[str, Any] = {"vocab_size": SIZE, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, **heads}
    return LlamaForCausalLM(LlamaConfig(**shape, initializer_range=0.4)).eval()


STUDENT, TEACHER = model(1), model(2)


@cache
@torch.inference_mode()
def next_token(of: LlamaForCausalLM, ids: tuple[int, ...]) -> torch.Tensor:
    return of(input_ids=torch.tensor([ids])).logits[0, -1].log_softmax(-1)


class House:
    """A teacher's answers, row by row, from its own whole forward passes."""

    def __init__(self) -> None:
        self.asked: list[int] = []  # rows of each question

    def reply(self, question: Question) -> teacher_pb2.ScoreReply:
        self.asked.append(question.drafts)
        reply = teacher_pb2.ScoreReply()
        for item in question.request.items:
            context, response = (segment.ids for segment in wire.sequence_from_proto(item.sequence).segments)
            want = wire.want_from_proto(item.want)
            assert want.next
            assert want.window is not None
            rows = range(want.window.start, want.window.end + 1)
            assert rows.stop == len(response) + 1
            logs = torch.stack([next_token(TEACHER, (*context.tolist(), *response[:row].tolist())) for row in rows])
            reply.results.add(rows=wire.rows_to_proto(self._rows(logs, rows, want), Grade.F32, SIZE)[0])
        return reply

    def _rows(self, logs: torch.Tensor, rows: range, want: Any) -> Rows:
        top, ids = logs.topk(want.topk)
        chance = teacher_uniform(np.full(len(rows), want.sample_seed, np.uint64), np.array(rows), 1)
        drawn = draw(logs, chance)
        lists = IdLogprobs(ids.numpy().astype(np.uint32), top.numpy())
        samples = IdLogprobs(drawn.numpy().astype(np.uint32), logs.gather(1, drawn).numpy())
        tail = logs.scatter(1, ids, -torch.inf).logsumexp(-1).numpy()
        validity = np.full(len(rows), Validity.OK, np.uint8)
        return Rows(start=rows.start, validity=validity, topk=lists, samples=samples, tail=tail, has_next=True)


def grown(block: int, samples: int, house: House, **fields: Any) -> dict[tuple[int, int], list[tuple[int, float, int]]]:
    """Of each rollout: its tokens, their log-probabilities as drawn, and who chose them."""
    policy = OpUse(op="speculative", params={"accept_topk": KEPT, "block_tokens": block})
    message = request(PROMPTS, samples, {"max_new_tokens": LENGTH}, **fields)
    message.policy_json = BehaviourSpec(policy=policy, teacher="t").to_json()
    vocabulary = SimpleNamespace(size=SIZE, decode=str, text=str)
    student = SimpleNamespace(model=STUDENT, info=SimpleNamespace(model=ModelRef("tiny")), eos_ids=(0,), vocabulary=vocabulary)
    steps = Growth(student, message, 64, 1 << 20).steps()  # pyright: ignore[reportArgumentType]
    found: dict[tuple[int, int], list[tuple[int, float, int]]] = {}
    due = next(steps, None)
    while due is not None:
        if isinstance(due, Question):
            due = steps.send(house.reply(due))
            continue
        for chunk in due:
            ids = wire.ids_from_proto(chunk.sequence.segments[0].response).tolist()
            values = np.frombuffer(chunk.behaviour.logprob_behaviour_f32le, np.float32).tolist()
            found[chunk.id.prompt, chunk.id.sample] = [*zip(ids, values, chunk.behaviour.provenance_u8, strict=True)]
        due = next(steps, None)
    return found


@pytest.mark.parametrize("fields", [{}, {"deterministic": True}], ids=["plain", "deterministic"])
@pytest.mark.parametrize("block", [2, 3, 8])
def test_a_block_draws_what_one_at_a_time_draws(block: int, fields: dict[str, Any]) -> None:
    single, several = House(), House()
    one, other = grown(1, 30, single, **fields), grown(block, 30, several, **fields)
    assert one.keys() == other.keys()
    for name, rows in one.items():
        assert [(token, who) for token, _, who in rows] == [(token, who) for token, _, who in other[name]]
        assert [value for _, value, _ in rows] == pytest.approx([value for _, value, _ in other[name]], abs=1e-5)
    assert max(several.asked) == min(block, LENGTH)
    assert {who for rows in one.values() for *_, who in rows} == {Provenance.ACCEPTED, Provenance.REPLACED}


@pytest.mark.slow
def test_responses_in_blocks_follow_the_exact_distribution() -> None:
    found = grown(2, DRAWS, House())
    counts = dict.fromkeys(itertools.chain(*(responses(prompt) for prompt in PROMPTS)), 0)
    for (prompt, _), rows in found.items():
        counts[prompt, *(token for token, _, _ in rows)] += 1
    expected = {(prompt, *ids): DRAWS * math.exp(log_prob(prompt, ids)) for prompt, *ids in counts}
    assert sum(expected.values()) == pytest.approx(len(PROMPTS) * DRAWS, rel=1e-5)
    often = [name for name, wanted in expected.items() if wanted >= 5]
    assert len(often) > 15
    square = sum((counts[name] - expected[name]) ** 2 / expected[name] for name in often)
    assert square < chi_square_limit(len(often) - 1)


def responses(prompt: int) -> list[tuple[int, ...]]:
    """Whatever may be drawn: three tokens, or fewer that end with the end."""
    every = itertools.chain(*(itertools.product(range(SIZE), repeat=length) for length in range(1, LENGTH + 1)))
    ended = [ids for ids in every if 0 not in ids[:-1] and (ids[-1] == 0 or len(ids) == LENGTH)]
    return [(prompt, *ids) for ids in ended]


def log_prob(prompt: int, ids: list[int]) -> float:
    """By the definition: a listed proposal stays, the mass of all others goes to a draw of the teacher's."""
    total = 0.0
    for position, token in enumerate(ids):
        prefix = (*PROMPTS[prompt], *ids[:position])
        student, teacher = (next_token(one, prefix).double().exp() for one in (STUDENT, TEACHER))
        listed = teacher.topk(KEPT).indices.tolist()
        refused = sum(float(student[other]) for other in range(SIZE) if other not in listed)
        total += math.log((float(student[token]) if token in listed else 0.0) + refused * float(teacher[token]))
    return total


def test_a_student_whose_cache_cannot_go_back_refuses_blocks_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "DynamicLayer", type("Other", (decoding.DynamicLayer,), {}))
    with pytest.raises(Unsupported) as refused:
        grown(2, 1, House())
    assert refused.value.field == "policy_json.policy.params.block_tokens"
