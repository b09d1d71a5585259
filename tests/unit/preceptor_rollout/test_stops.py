"""When a rollout ends, and what its text is then."""

from __future__ import annotations

import pytest

from preceptor.types import FinishReason
from preceptor_proto.v1 import rollout_pb2
from preceptor_rollout.stops import StopRules

EOS = 2


def decode(ids) -> str:
    """One letter a token."""
    return "".join(chr(ord("a") + i) for i in ids)


def rules(**fields) -> StopRules:
    return StopRules.of(rollout_pb2.Sampling(**{"max_new_tokens": 6, **fields}), (EOS, 9))


@pytest.mark.parametrize(
    ("ids", "fields", "reason"),
    [
        ([1, 1], {}, None),
        ([1, EOS], {}, FinishReason.EOS),
        ([1, 9], {}, FinishReason.EOS),
        ([1, EOS], {"ignore_eos": True}, None),
        ([1, 5], {"extra_stop_ids": [5]}, FinishReason.STOP),
        ([1] * 6, {}, FinishReason.LENGTH),
        ([1] * 5 + [EOS], {}, FinishReason.EOS),
        ([1, 3, 4], {"stop": ["x", "de"]}, FinishReason.STOP),
        ([3, 4, 1], {"stop": ["de"]}, FinishReason.STOP),
        ([1] * 5 + [5], {"extra_stop_ids": [5]}, FinishReason.STOP),
    ],
)
def test_the_reason_is_that_of_the_newest_token(ids, fields, reason):
    assert rules(**fields).ends(ids, decode) is reason


def test_a_stop_string_is_found_across_tokens_of_a_long_response():
    stop = rules(stop=["abc"], max_new_tokens=1000)
    ids = [3] * 500 + [0, 1]
    assert stop.ends(ids, decode) is None
    assert stop.ends([*ids, 2], decode) is FinishReason.EOS  # the EOS id counts first
    assert rules(stop=["abc"], max_new_tokens=1000, ignore_eos=True).ends([*ids, 2], decode) is FinishReason.STOP


def test_text_is_cut_before_the_first_stop_string():
    assert rules(stop=["lo", "ell"]).trimmed("hello") == "h"
    assert rules(stop=["x"]).trimmed("hello") == "hello"
