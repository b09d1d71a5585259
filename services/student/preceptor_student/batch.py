"""Micro-batches as they arrive, decoded and checked once: `Item` is one rollout with everything that was said of it."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from preceptor.errors import Corrupt, InvalidArgument
from preceptor.types import FinishReason, Hidden, RaggedIds, Rows, Validity
from preceptor.wire import behaviour_from_proto, ragged_from_proto, rows_from_proto, sequence_from_proto
from preceptor_proto.v1 import common_pb2, student_pb2
from preceptor_student.objectives.signals import Drawn, ItemScores
from preceptor_student.step_columns import steps_of

NOTHING_LOGGED = Drawn()


@dataclass(frozen=True, slots=True)
class Item:
    """One rollout: row r is the prediction of ids[positions_r[r]]."""

    ids: NDArray[np.int64]
    positions_r: NDArray[np.int64]
    source: str
    group: str
    weight: float
    truncated: bool
    scores: dict[str, ItemScores]
    drawn: Drawn = NOTHING_LOGGED

    @property
    def targets_r(self) -> NDArray[np.int64]:
        return self.ids[self.positions_r]

    @property
    def row_count(self) -> int:
        return len(self.positions_r)


def items_of(batch: student_pb2.MicroBatch, head_rows: int, where: str) -> list[Item]:
    """The rollouts of one micro-batch, or `InvalidArgument` naming the field."""
    return [_item(message, head_rows, f"{where}.items[{index}]") for index, message in enumerate(batch.items)]


def _item(message: student_pb2.TrainItem, head_rows: int, where: str) -> Item:
    sequence = sequence_from_proto(message.sequence, f"{where}.sequence")
    ids, positions_r = sequence.ids.astype(np.int64), sequence.targets
    if len(ids) and ids.max() >= head_rows:
        _refuse(f"{where}.sequence", f"id {ids.max()}", f"< {head_rows}", "the student has no such token")
    if len(positions_r) == 0 or positions_r[0] == 0:
        _refuse(f"{where}.sequence", f"{len(positions_r)} rows", "response tokens after some context", "nothing to train on")
    if not (message.weight > 0 and math.isfinite(message.weight)):
        _refuse(f"{where}.weight", message.weight, "> 0", "leave out an item that weighs nothing")
    listed = _lists(message.student_topk, f"{where}.student_topk") if message.HasField("student_topk") else None
    by_source: dict[str, list[student_pb2.TeacherScores]] = {}
    for scores in message.scores:
        by_source.setdefault(scores.source, []).append(scores)
    return Item(
        ids,
        positions_r,
        message.source,
        message.group,
        message.weight,
        message.finish_reason == FinishReason.LENGTH,
        {
            name: _joined(parts, ids[positions_r], listed, head_rows, f"{where}.scores[{name}]")
            for name, parts in by_source.items()
        },
        _drawn(message, len(positions_r), f"{where}.behaviour"),
    )


def _drawn(message: student_pb2.TrainItem, rows: int, where: str) -> Drawn:
    try:
        behaviour = behaviour_from_proto(message.behaviour, rows)
    except Corrupt as error:
        raise InvalidArgument(f"{where}: {error}", field=f"{where}.{error.field}", value=error.value, limit=error.limit) from None
    newest = None if behaviour.versions is None else int(behaviour.versions.max())
    return Drawn(behaviour.logprob_policy, behaviour.logprob_behaviour, newest)


# ---------------------------------------------------------------- scores


def _joined(
    parts: Iterable[student_pb2.TeacherScores],
    targets_r: NDArray[np.int64],
    listed: RaggedIds | None,
    head_rows: int,
    where: str,
) -> ItemScores:
    """One teacher's parts on the rows 0 .. R - 1; rows that no part covers are not OK."""
    columns, steps = _Columns(len(targets_r), where), None
    reward: float | None = None
    for part in parts:
        steps = steps_of(part, len(targets_r), where) or steps
        own = _lists(part.candidates, f"{where}.candidates") if part.HasField("candidates") else None
        reward = part.reward if part.HasField("reward") else reward
        if part.HasField("rows"):
            lists = own or _between(listed, part.rows.start, part.rows.count)
            offsets = None if lists is None else lists.offsets
            columns.add(_rows(part.rows, offsets, f"{where}.rows"), lists)
    columns.check_ids(head_rows)
    scores = columns.scores(targets_r, reward)
    return scores if steps is None else replace(scores, step_reward_r=steps[0], step_r=steps[1])


@contextmanager
def _sent() -> Generator[None]:
    """What a caller sent and cannot be read is his mistake, and nothing that was kept is broken."""
    try:
        yield
    except Corrupt as error:
        raise InvalidArgument(error.message, field=error.field, value=error.value, limit=error.limit) from None


def _rows(message: common_pb2.Rows, offsets: NDArray[Any] | None, where: str) -> Rows:
    with _sent():
        return rows_from_proto(message, offsets, field=where)


def _lists(message: common_pb2.CandidateIds, where: str) -> RaggedIds:
    with _sent():
        return ragged_from_proto(message, where)


def _between(lists: RaggedIds | None, start: int, count: int) -> RaggedIds | None:
    if lists is None or start + count > lists.row_count:
        return None
    return lists.rows_between(start, start + count)


class _Columns:
    """Columns over all rows of one sequence, filled part by part."""

    def __init__(self, rows: int, where: str) -> None:
        self._rows, self._where = rows, where
        self._seen_r = np.zeros(rows, bool)
        self._ok_r = np.zeros(rows, bool)
        self._floats: dict[str, NDArray[np.float32]] = {}
        self._ids: dict[str, NDArray[np.int64]] = {}
        self._there_rc: NDArray[np.bool_] | None = None
        self._head_sha256 = b""

    def add(self, rows: Rows, lists: RaggedIds | None) -> None:
        end = rows.end - int(rows.has_next)
        if end > self._rows or self._seen_r[rows.start : end].any():
            limit = f"rows 0..{self._rows - 1}, each once"
            _refuse(f"{self._where}.rows", f"rows {rows.start}..{end - 1}", limit, "the parts of one teacher do not fit")
        part, count = slice(rows.start, end), end - rows.start
        self._seen_r[part] = True
        self._ok_r[part] = rows.validity[:count] == Validity.OK
        for name in ("sampled", "tail", "entropy"):
            column: NDArray[np.float32] | None = getattr(rows, name)
            if column is not None:
                self._float(name)[part] = column[:count]
        if rows.topk is not None:
            width = rows.topk.ids.shape[1]
            self._id("topk", width)[part] = rows.topk.ids[:count]
            self._float("topk", width)[part] = rows.topk.logprobs[:count]
        if rows.hidden is not None:
            self._add_states(rows.hidden, part, count)
        if rows.candidates is not None and lists is not None:
            self._add_lists(lists, rows.candidates.logprobs, part, count)

    def _add_states(self, hidden: Hidden, part: slice, count: int) -> None:
        """States of one head: those of another are numbers of another kind."""
        field = f"{self._where}.rows.hidden"
        if self._head_sha256 not in (b"", hidden.head_sha256):
            why = "the parts of one teacher are states before different heads"
            _refuse(f"{field}.head_sha256", hidden.head_sha256.hex(), self._head_sha256.hex(), why)
        self._head_sha256 = hidden.head_sha256
        width, known = hidden.states.shape[1], self._floats.get("hidden")
        if known is not None and known.shape[1] != width:
            _refuse(f"{field}.width", width, str(known.shape[1]), "the states of one head have one width")
        self._float("hidden", width)[part] = hidden.states[:count]

    def _add_lists(self, lists: RaggedIds, values: NDArray[np.float32], part: slice, count: int) -> None:
        cuts = lists.offsets.astype(np.int64)[: count + 1]
        lengths = np.diff(cuts)
        width = int(lengths.max(initial=0))
        ids, floats = self._id("listed", width), self._float("listed", width)
        there = self._there(ids.shape[1])
        row = np.repeat(np.arange(count), lengths)
        column = np.arange(cuts[-1]) - np.repeat(cuts[:-1], lengths)
        row += part.start
        ids[row, column] = lists.ids[: cuts[-1]]
        floats[row, column] = values[: cuts[-1]]
        there[row, column] = True

    def check_ids(self, head_rows: int) -> None:
        """Padded heads may differ between models that share a tokenizer; ids of real tokens may not."""
        for name, ids in self._ids.items():
            if ids.size and ids.max() >= head_rows:
                field = f"{self._where}.rows.{'candidates' if name == 'listed' else name}"
                _refuse(field, f"id {ids.max()}", f"< {head_rows}", "the student has no such token")

    def scores(self, targets_r: NDArray[np.int64], reward: float | None) -> ItemScores:
        return ItemScores(
            self._ok_r,
            targets_r,
            self._floats.get("sampled"),
            self._ids.get("topk"),
            self._floats.get("topk"),
            self._ids.get("listed"),
            self._floats.get("listed"),
            self._there_rc,
            self._floats.get("tail"),
            reward,
            self._floats.get("entropy"),
            self._floats.get("hidden"),
            self._head_sha256,
        )

    def _float(self, name: str, width: int | None = None) -> NDArray[np.float32]:
        self._floats[name] = _widened(self._floats.get(name), self._rows, width, np.float32(np.nan))
        return self._floats[name]

    def _id(self, name: str, width: int) -> NDArray[np.int64]:
        self._ids[name] = _widened(self._ids.get(name), self._rows, width, np.int64(0))
        return self._ids[name]

    def _there(self, width: int) -> NDArray[np.bool_]:
        self._there_rc = _widened(self._there_rc, self._rows, width, np.bool_(0))
        return self._there_rc


def _widened(old: NDArray[Any] | None, rows: int, width: int | None, fill: np.generic) -> NDArray[Any]:
    """The column with room for `width` entries a row; new room holds `fill`."""
    if old is not None and (width is None or old.shape[1] >= width):
        return old
    shape = (rows,) if width is None else (rows, width)
    fresh = np.full(shape, fill, fill.dtype)
    if old is not None:
        fresh[:, : old.shape[1]] = old
    return fresh


def _refuse(field: str, value: object, limit: str, why: str) -> None:
    raise InvalidArgument(f"{field} is {value}: {why}", field=field, value=value, limit=limit)
