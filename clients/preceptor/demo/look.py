"""A look at the pair before training: the teacher's own answers, and a rollout of the student as the teacher sees it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from preceptor import types, wire
from preceptor.client.teacher import AsyncTeacherClient, ScoreItem
from preceptor.demo.pair import TEACHER_NAME, Pair
from preceptor.error_details import error_of
from preceptor.errors import PreceptorError, Unavailable
from preceptor.extras import require
from preceptor.learner import EvaluationItem
from preceptor.learner.evaluation import render
from preceptor.learner.ports import RolloutPort
from preceptor.recipes import is_match
from preceptor.report import ScoredToken
from preceptor.types import Receipt, Rollout, Scored, Want
from preceptor_proto.v1 import rollout_pb2

DEADLINE_S = 60.0
ALTERNATIVES = 3
CANDIDATE_ROLLOUTS = 24


@dataclass(frozen=True, slots=True)
class Answers:
    """Greedy answers to held-out questions."""

    texts: Sequence[str]
    accuracy: float


@dataclass(frozen=True, slots=True)
class Coloured:
    """One rollout as both models see it."""

    prompt: str
    tokens: Sequence[ScoredToken]
    receipt: Receipt


async def greedy_answers(port: RolloutPort, items: Sequence[EvaluationItem], max_new_tokens: int) -> Answers:
    """What the weights behind a rollout service answer."""
    rollouts = await _generate(port, [item.prompt for item in items], max_new_tokens, temperature=0.0)
    texts = [rollout.text for rollout in rollouts]
    right = [is_match(text, item.answer, "last_word") for text, item in zip(texts, items, strict=True)]
    return Answers(texts, sum(right) / len(right))


async def coloured_rollout(
    port: RolloutPort, teacher: AsyncTeacherClient, items: Sequence[EvaluationItem], pair: Pair, max_new_tokens: int
) -> Coloured:
    """Of a few sampled rollouts the one with the largest disagreement at a single token."""
    prompts = [item.prompt for item in items[:CANDIDATE_ROLLOUTS]]
    rollouts = await _generate(port, prompts, max_new_tokens, temperature=1.0)
    want = Want(sampled=True, topk=ALTERNATIVES)
    scored = await teacher.score(TEACHER_NAME, [ScoreItem(one.sequence, want) for one in rollouts], deadline_s=DEADLINE_S)
    decode = _decoder(pair)
    looks = [
        Coloured(prompt, _tokens(rollout, _succeeded(result), decode), _succeeded(result).receipt)
        for prompt, rollout, result in zip(prompts, rollouts, scored, strict=True)
    ]
    return max(looks, key=lambda look: max(token.disagreement_nats for token in look.tokens))


async def _generate(port: RolloutPort, prompts: Sequence[str], max_new_tokens: int, *, temperature: float) -> list[Rollout]:
    ids = await render(port, prompts, DEADLINE_S)
    sampling = rollout_pb2.Sampling(max_new_tokens=max_new_tokens, temperature=temperature)
    request = rollout_pb2.GenerateRequest(run="look", sampling=sampling)
    for index, one in enumerate(ids):
        request.prompts.add(prompt=index, context=one, samples=1)
    found: dict[int, Rollout] = {}
    async for reply in port.generate(request, deadline_s=DEADLINE_S):
        if reply.HasField("failure"):
            raise error_of(reply.failure.error)
        rollout = wire.rollout_from_proto(reply.rollout)
        found[rollout.id.prompt] = rollout
    if len(found) != len(prompts):
        raise Unavailable(f"the rollout service answered {len(found)} of {len(prompts)} prompts")
    return [found[index] for index in range(len(prompts))]


def _succeeded(result: Scored | PreceptorError) -> Scored:
    if isinstance(result, PreceptorError):
        raise result
    return result


def _tokens(rollout: Rollout, scored: Scored, decode: Callable[[int], str]) -> list[ScoredToken]:
    policy, sampled, top = rollout.behaviour.logprob_policy, scored.rows.sampled, scored.rows.topk
    assert policy is not None
    assert sampled is not None
    assert top is not None, "all three were wanted"
    return [
        ScoredToken(decode(token), float(policy[r]), float(sampled[r]), _alternatives(top, r, decode))
        for r, token in enumerate(rollout.sequence.response_ids.tolist())
    ]


def _alternatives(top: types.IdLogprobs, row: int, decode: Callable[[int], str]) -> list[tuple[str, float]]:
    return [(decode(token), float(value)) for token, value in zip(top.ids[row].tolist(), top.logprobs[row], strict=True)]


def _decoder(pair: Pair) -> Callable[[int], str]:
    """Id -> text, special tokens by name."""
    tokenizer = require("tokenizers", extra="models").Tokenizer.from_file(str(pair.student / "tokenizer.json"))

    def decode(token: int) -> str:
        return str(tokenizer.decode([token], skip_special_tokens=False))

    return decode
