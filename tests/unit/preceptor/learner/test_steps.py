"""Steps of a text become rows by the bytes of its tokens, whatever these bytes are; and the control deals their rewards."""

from __future__ import annotations

from collections import Counter
from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preceptor import wire
from preceptor.errors import Corrupt, Unsupported
from preceptor.learner.control import permuted
from preceptor.learner.steps import Response, Rows, responses_with_rows, row_starts
from preceptor.types import Sequence, Validity, Verdict
from preceptor_proto.v1 import rollout_pb2, student_pb2, teacher_pb2

CUT = st.lists(st.binary(max_size=3), max_size=8)


def pieces_of(*raw: bytes, special: tuple[int, ...] = ()) -> rollout_pb2.TokenPieces:
    return rollout_pb2.TokenPieces(utf8=raw, special_u8=bytes(int(at in special) for at in range(len(raw))))


def verdict(*steps: tuple[int, float]) -> teacher_pb2.Verdict:
    ends, rewards = zip(*steps, strict=True)
    return wire.verdict_to_proto(Verdict(Validity.OK, 0.5, step_rewards=rewards, step_ends=ends))


def rows_up_to(placed: teacher_pb2.Verdict) -> list[int]:
    return np.frombuffer(placed.step_rows_u32le, "<u4").tolist()


# ---------------------------------------------------------------- where rows start


@given(CUT)
def test_a_row_starts_behind_the_whole_characters_before_it_whatever_the_bytes(raw):
    text = b"".join(raw).decode(errors="replace")
    starts = row_starts(pieces_of(*raw), text)
    assert starts is not None
    assert (np.diff(starts) >= 0).all()
    assert all(text.encode()[:start].decode().encode() == text.encode()[:start] for start in starts), "no character is cut"


@pytest.mark.parametrize(
    ("raw", "special", "text", "starts"),
    [
        ((b"a", b" b", b"</s>"), (2,), "a b", [0, 1, 3]),
        ((b"\xc3", b"\xa9", b"x"), (), "éx", [0, 0, 2]),  # both halves of a character start where it does
        ((b" a", b" b"), (), "a b", [0, 1]),  # the first space is not in the text
        ((b"a", b"\n\nq", b"</s>"), (2,), "a", [0, 1, 1]),  # trimmed at a stop string
        ((b"a", b""), (), "a", [0, 1]),
        ((), (), "", []),
    ],
)
def test_rows_by_example(raw, special, text, starts):
    found = row_starts(pieces_of(*raw, special=special), text)
    assert found is not None
    assert found.tolist() == starts


def test_a_text_of_other_tokens_has_no_rows():
    assert row_starts(pieces_of(b"a"), "b") is None
    assert row_starts(pieces_of(b"xa"), "a") is None  # what was left out is no space


# ---------------------------------------------------------------- steps as rows


def test_a_row_is_of_the_step_in_which_it_starts_and_the_end_of_the_last_one():
    """Text `é ab c`, tokens `é`, ` a`, `b c`, end: the third reaches over the end of a step."""
    rows = Rows(row_starts(pieces_of("é".encode(), b" a", b"b c", b"</s>", special=(3,)), "é ab c"))
    assert rows_up_to(rows.placed(verdict((2, 1.0), (5, 0.0), (7, 1.0), (7, 1.0)))) == [1, 3, 3, 4]
    assert rows_up_to(
        rows.placed(
            verdict(
                (7, 1.0),
            )
        )
    ) == [4]
    assert rows_up_to(rows.placed(verdict((2, 1.0), (7, 1.0)))) == [1, 4]


def test_steps_without_rows_and_verdicts_without_steps():
    bare = Rows(None).placed(verdict((1, 1.0)))
    assert (bare.step_rows_u32le, bare.reward) == (b"", 0.5)
    missing = wire.verdict_to_proto(Verdict(Validity.MISSING_PROVIDER, None))
    assert Rows(np.array([0])).placed(missing) == missing
    with pytest.raises(Unsupported, match="no steps"):
        Rows(np.array([0])).placed(wire.verdict_to_proto(Verdict(Validity.OK, 1.0)))
    plain = wire.verdict_to_proto(Verdict(Validity.OK, 1.0))
    assert Response("a").placed(teacher_pb2.GradeResult(verdict=plain)) == plain
    failed = teacher_pb2.GradeResult()
    failed.error.SetInParent()
    assert Response("a").placed(failed) is None


def test_doubts_are_the_starts_of_the_least_likely_tokens():
    rows = Rows(np.array([0, 2, 2, 5]))
    assert rows.doubts(np.array([-1.0, -0.1, -3.0, -2.0], "<f4").tobytes()) == [2, 5, 0]
    assert rows.doubts(np.array([-1.0, np.nan, -3.0, -2.0], "<f4").tobytes()) == []
    assert rows.doubts(b"") == []
    assert Rows(None).doubts(np.array([-1.0], "<f4").tobytes()) == []


class Tokenizer:
    """A rollout service that answers with these pieces."""

    def __init__(self, *pieces: rollout_pb2.TokenPieces) -> None:
        self.reply = rollout_pb2.PiecesReply(pieces=pieces)

    async def pieces(self, request: rollout_pb2.PiecesRequest, *, deadline_s: float) -> rollout_pb2.PiecesReply:
        return self.reply


def rollout(text: str, *turns: list[int]) -> rollout_pb2.RolloutResult:
    result = rollout_pb2.RolloutResult(text=text)
    for ids in turns:
        result.sequence.segments.add(context=wire.ids_to_proto([1]))
        result.sequence.segments.add(response=wire.ids_to_proto(ids))
    return result


async def test_the_text_of_several_turns_is_no_whole_response():
    one, two = rollout("ab", [5, 6]), rollout("ab", [7], [5, 6])
    port = Tokenizer(pieces_of(b"a", b"b"), pieces_of(b"a", b"b"))
    first, second = await responses_with_rows(port, [one, two], 1.0)  # pyright: ignore[reportArgumentType]
    assert first.rows is not None
    assert first.rows.starts_r is not None
    assert second.rows == Rows(None)
    with pytest.raises(Corrupt):
        await responses_with_rows(port, [one], 1.0)  # pyright: ignore[reportArgumentType]


# ---------------------------------------------------------------- the control


def test_the_control_deals_the_rewards_of_all_steps_and_leaves_the_steps():
    items, rewards = [], [[1.0, 0.5], [0.25], [], [0.125, 0.0, 2.0]]
    for number, some in enumerate(rewards):
        item = student_pb2.TrainItem(sequence=wire.sequence_to_proto(Sequence.of([1, 2], [3, 4, 5])))
        packed = np.array(some, "<f4").tobytes()
        item.scores.add(source="judge", reward=float(number), step_rewards_f32le=packed,
                        step_rows_u32le=np.arange(1, len(some) + 1, dtype="<u4").tobytes())  # fmt: skip
        items.append(item)
    dealt = permuted(items, 7, 0, 20)
    after = [np.frombuffer(item.scores[0].step_rewards_f32le, "<f4").tolist() for item in dealt]
    assert [len(one) for one in after] == [len(one) for one in rewards]
    assert after != rewards
    assert Counter(chain(*after)) == Counter(chain(*rewards))
    assert [item.scores[0].step_rows_u32le for item in dealt] == [item.scores[0].step_rows_u32le for item in items]
    assert after == [np.frombuffer(one.scores[0].step_rewards_f32le, "<f4").tolist() for one in permuted(items, 7, 0, 20)]
