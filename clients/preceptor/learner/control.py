"""The control `permute_scores`: every teacher row of a batch goes to another row, so that it says nothing about the token there.

Whatever a run learns with it, it does not learn from the teacher. A row is a distribution over listed tokens and a tail; at its
new place the drawn token is another one, so its log-probability is looked up in the row, or is its even share of the tail.
Everything else is as it was, and the batch that is journaled is the batch that is sent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from preceptor import wire
from preceptor.philox import rollout_uniform
from preceptor.types import Grade, Hidden, HiddenDtype, IdLogprobs, RaggedIds, RaggedLogprobs, Rows, as_ids
from preceptor_proto.v1 import common_pb2, student_pb2

PERMUTATION_DOMAIN = 0x7065_726D  # keeps these draws apart from those of rollouts
WIDEST_HEAD_ROWS = 1 << 24


@dataclass(frozen=True, slots=True)
class _Row:
    """One teacher row, taken out of its message."""

    validity: int
    target: int
    sampled: float | None
    entropy: float | None
    tail: float | None
    topk: tuple[NDArray[np.uint32], NDArray[np.float32]] | None
    listed: tuple[NDArray[np.uint32], NDArray[np.float32]] | None
    hidden: Hidden | None

    def known(self) -> dict[int, float]:
        """Log-probabilities by token; the drawn token's own column is never rounded, so it wins."""
        found: dict[int, float] = {}
        for pairs in (self.topk, self.listed):
            if pairs is not None:
                found.update(zip(pairs[0].tolist(), pairs[1].tolist(), strict=True))
        return found if self.sampled is None else found | {self.target: self.sampled}


def permuted(items: Sequence[student_pb2.TrainItem], seed: int, index: int, tokenizer_size: int) -> list[student_pb2.TrainItem]:
    """The items with the rows of each teacher, and the rewards of each grader, dealt to other places."""
    fresh = [_copy(item) for item in items]
    for source in sorted({scores.source for item in items for scores in item.scores}):
        rows = [row for item in items for row in _rows(item, source)]
        order = _order(len(rows), seed, index)
        _deal(fresh, source, [rows[i] for i in order], tokenizer_size)
        rewarded = [scores for item in fresh for scores in item.scores if scores.source == source and scores.HasField("reward")]
        rewards = [scores.reward for scores in rewarded]
        for scores, place in zip(rewarded, _order(len(rewards), seed, index), strict=True):
            scores.reward = rewards[place]
        _deal_steps(rewarded, seed, index)
    return fresh


def _deal_steps(judged: Sequence[student_pb2.TeacherScores], seed: int, index: int) -> None:
    """The rewards of all steps of one grader, those that are missing included, to other steps."""
    lengths = [len(scores.step_rewards_f32le) // 4 for scores in judged]
    every = np.frombuffer(b"".join(scores.step_rewards_f32le for scores in judged), "<f4")
    dealt = every[_order(len(every), seed, index)]
    for scores, end, length in zip(judged, np.cumsum(lengths), lengths, strict=True):
        scores.step_rewards_f32le = dealt[end - length : end].tobytes()


def _order(count: int, seed: int, index: int) -> list[int]:
    """A permutation that only the seed and the step decide."""
    draws = rollout_uniform(seed, index, PERMUTATION_DOMAIN, 0, np.arange(count))
    return [int(place) for place in np.argsort(draws, kind="stable")]


# ---------------------------------------------------------------- taking apart


def _rows(item: student_pb2.TrainItem, source: str) -> list[_Row]:
    targets = wire.sequence_from_proto(item.sequence).response_ids
    lists = wire.ragged_from_proto(item.student_topk) if item.HasField("student_topk") else None
    found: list[_Row] = []
    for scores in item.scores:
        if scores.source == source and scores.HasField("rows"):
            found += _rows_of(scores.rows, targets, lists)
    return found


def _rows_of(message: common_pb2.Rows, targets: NDArray[np.uint32], lists: RaggedIds | None) -> list[_Row]:
    asked = lists.rows_between(message.start, message.start + message.count) if lists and message.HasField("candidates") else None
    rows = wire.rows_from_proto(message, None if asked is None else asked.offsets)
    return [_row(rows, asked, r, int(targets[message.start + r])) for r in range(message.count)]


def _row(rows: Rows, asked: RaggedIds | None, r: int, target: int) -> _Row:
    return _Row(
        int(rows.validity[r]),
        target,
        _at(rows.sampled, r),
        _at(rows.entropy, r),
        _at(rows.tail, r),
        (rows.topk.ids[r], rows.topk.logprobs[r]) if rows.topk else None,
        (asked.row(r), rows.candidates.row(r)) if asked is not None and rows.candidates else None,
        replace(rows.hidden, states=rows.hidden.states[r : r + 1]) if rows.hidden else None,
    )


def _at(column: NDArray[np.float32] | None, r: int) -> float | None:
    return None if column is None else float(column[r])


# ---------------------------------------------------------------- putting together


def _copy(item: student_pb2.TrainItem) -> student_pb2.TrainItem:
    fresh = student_pb2.TrainItem()
    fresh.CopyFrom(item)
    return fresh


def _deal(items: Sequence[student_pb2.TrainItem], source: str, rows: Sequence[_Row], tokenizer_size: int) -> None:
    start = 0
    for item in items:
        targets = wire.sequence_from_proto(item.sequence).response_ids
        for scores in item.scores:
            if scores.source == source and scores.HasField("rows"):
                first, count = scores.rows.start, scores.rows.count
                placed = rows[start : start + count]
                _fill(scores, placed, targets[first : first + count], tokenizer_size)
                start += count


def _fill(scores: student_pb2.TeacherScores, rows: Sequence[_Row], targets: NDArray[np.uint32], size: int) -> None:
    moved = [_moved(row, int(target), size) for row, target in zip(rows, targets, strict=True)]
    lists = [row.listed for row in moved if row.listed is not None]
    topk = [row.topk for row in moved if row.topk is not None]
    candidates = RaggedIds.from_rows(ids for ids, _ in lists) if len(lists) == len(moved) else None
    typed = Rows(
        scores.rows.start,
        np.array([row.validity for row in moved], np.uint8),
        _column([row.sampled for row in moved]),
        _column([row.entropy for row in moved]),
        _column([row.tail for row in moved]),
        IdLogprobs(np.stack([ids for ids, _ in topk]), np.stack([values for _, values in topk])) if topk else None,
        RaggedLogprobs(candidates.offsets, np.concatenate([values for _, values in lists])) if candidates else None,
        hidden=_states([row.hidden for row in moved if row.hidden is not None]),
    )
    scores.rows.CopyFrom(wire.rows_to_proto(typed, Grade.F32, WIDEST_HEAD_ROWS)[0])
    if candidates is not None:
        scores.candidates.CopyFrom(wire.ragged_to_proto(candidates))


def _moved(row: _Row, target: int, size: int) -> _Row:
    """The row as it reads where another token was drawn: still one distribution."""
    if row.sampled is None or row.tail is None or math.isnan(row.tail):
        return replace(row, target=target)
    known = row.known()
    listed = {int(one) for pairs in (row.topk, row.listed) if pairs is not None for one in as_ids(pairs[0])}
    tail = row.tail if row.target in listed else float(np.logaddexp(row.tail, row.sampled))
    if target in listed:
        return replace(row, target=target, sampled=known[target], tail=tail)
    rest = max(size - len(listed), 1)
    share, others = tail - math.log(rest), tail + math.log1p(-1 / rest) if rest > 1 else -math.inf
    return replace(row, target=target, sampled=share, tail=others)


def _states(parts: Sequence[Hidden]) -> Hidden | None:
    """The states of a reply's rows. They stand in f32 now, which loses nothing; of several heads the first one's name goes on."""
    if not parts:
        return None
    return Hidden(np.concatenate([part.states for part in parts]).astype(np.float32), HiddenDtype.F32, parts[0].head_sha256)


def _column(values: Sequence[float | None]) -> NDArray[np.float32] | None:
    return None if any(value is None for value in values) else np.array(values, np.float32)
