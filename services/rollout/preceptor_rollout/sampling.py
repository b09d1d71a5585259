"""Logits to tokens: temperature, truncation, and a draw by inverse CDF in float64 and id order.

Shapes: b sequences, v rows of the head, t ids that stand for a token, k ids.

    logits -> / temperature -> log-softmax in f32 over all rows of the head      the policy
           -> only real tokens -> top_k -> top_p, ties by the lower id           what is drawn from

`top_p` keeps the fewest ids, from the likeliest on, whose mass within what `top_k` kept reaches it. Rows of the head from the
tokenizer's size on are never drawn; their mass stays in the policy's log-probabilities. Temperature 0 takes the likeliest
token: it is drawn with certainty (behaviour 0), and its policy log-probability is the one at temperature 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from preceptor_proto.v1 import rollout_pb2
from preceptor_serving.models.draw import draw
from preceptor_serving.models.temperature import tempered
from preceptor_serving.models.topk import topk_lowest_id

NEXT_TO_IMPOSSIBLE = -100.0  # nats; further down f32 rounds differences between tokens away


@dataclass(frozen=True, slots=True)
class SamplingRule:
    """How a distribution is bent before a token is drawn. `top_k` 0 and `top_p` 1 bend nothing."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0

    @classmethod
    def of(cls, message: rollout_pb2.Sampling) -> SamplingRule:
        """The rule of a request; what it leaves out is 1."""
        temperature = message.temperature if message.HasField("temperature") else 1.0
        return cls(temperature, message.top_p if message.HasField("top_p") else 1.0, message.top_k)


@dataclass(frozen=True, slots=True)
class Reading:
    """A row of the head for each sequence, and the student's own draw from it."""

    policy_bt: Tensor  # log-probabilities under the temperature alone
    kept_bt: Tensor  # the same where truncation keeps an id, -inf elsewhere
    log_mass_b: Tensor  # of what is kept: 0 where that is everything
    ids_b: Tensor

    @property
    def log_probs_bt(self) -> Tensor:
        """What the student draws from, normalised."""
        return self.kept_bt - self.log_mass_b[:, None]

    @property
    def own_b(self) -> Tensor:
        """The log-probability of the student's own draw."""
        return self.kept_bt.gather(1, self.ids_b[:, None])[:, 0] - self.log_mass_b


@torch.inference_mode()
def read_rows(logits_bv: Tensor, uniform_b: NDArray[np.float64], rule: SamplingRule, tokenizer_size: int) -> Reading:
    """The student's own token for each row from its number in [0, 1), and what it was drawn from."""
    policy_bv = policy_log_probs(logits_bv, rule.temperature)
    policy_bt = policy_bv[:, :tokenizer_size]
    nothing_b = torch.zeros_like(policy_bt[:, 0])
    if rule.temperature == 0:
        ids_b = policy_bt.argmax(-1)  # the first of equals
        kept_bt = torch.full_like(policy_bt, -torch.inf).scatter_(1, ids_b[:, None], 0.0)
        return Reading(policy_bt, kept_bt, nothing_b, ids_b)
    kept_bt = truncated(_of_tokens(logits_bv[:, :tokenizer_size], policy_bt, rule.temperature), rule)
    everything = kept_bt is policy_bt and policy_bt.shape == policy_bv.shape
    ids_b = draw(kept_bt, uniform_b[:, None])[:, 0]
    return Reading(policy_bt, kept_bt, nothing_b if everything else log_mass(kept_bt), ids_b)


def _of_tokens(logits_bt: Tensor, policy_bt: Tensor, temperature: float) -> Tensor:
    """The policy; where all tokens are next to impossible, since other rows of the head hold the mass, relative to each other."""
    far_b1 = policy_bt.amax(-1, keepdim=True) < NEXT_TO_IMPOSSIBLE
    return torch.where(far_b1, policy_log_probs(logits_bt, temperature), policy_bt) if far_b1.any() else policy_bt


def likeliest(policy_bt: Tensor, count: int) -> Tensor:
    """The policy's so many likeliest tokens, ties by the lower id."""
    return topk_lowest_id(policy_bt, count)[1]


def policy_log_probs(logits_bv: Tensor, temperature: float) -> Tensor:
    """Log-probabilities in f32 over the whole head; temperature 0 is read at 1."""
    return tempered(logits_bv.float(), temperature or 1.0).log_softmax(-1)


def truncated(log_probs_bt: Tensor, rule: SamplingRule) -> Tensor:
    """The same where an id may be drawn, -inf elsewhere; the very same tensor where nothing is cut off."""
    if 0 < rule.top_k < log_probs_bt.shape[1]:
        values_bn, ids_bn = topk_lowest_id(log_probs_bt, rule.top_k)
    elif rule.top_p < 1:
        values_bn, ids_bn = log_probs_bt.sort(descending=True, stable=True)
    else:
        return log_probs_bt
    mass_bn = values_bn.double().exp()
    reached_bn = mass_bn.cumsum(-1)
    beyond_bn = (reached_bn - mass_bn) >= rule.top_p * reached_bn[:, -1:]
    beyond_bn[:, 0] = False
    return torch.full_like(log_probs_bt, -torch.inf).scatter_(1, ids_bn, values_bn.masked_fill(beyond_bn, -torch.inf))


def log_mass(log_probs_bt: Tensor) -> Tensor:
    """Log of each row's total probability."""
    return log_probs_bt.double().logsumexp(-1).float()
