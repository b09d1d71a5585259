"""A task and its log to one sequence: which rows there are, where they stand in the log, what is wanted of the next ones.

The context before the first response comes from the task, later context from the log, unless the view replaces it by turn. A turn
is a run of response entries; rows run through all of them, whatever the view puts in between.
"""

from __future__ import annotations

from collections.abc import Sequence as Entries
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from preceptor import wire
from preceptor.errors import InvalidArgument
from preceptor.queue.parts import first_row
from preceptor.types import RaggedIds, Segment, Sequence
from preceptor_proto.v1 import common_pb2, rollout_pb2, teacher_pb2

NO_LIST = np.zeros(0, np.uint32)


@dataclass(frozen=True, slots=True)
class TaskView:
    """What is known of a task's sequence. `offsets[r]` is the place of row r's target in the log."""

    sequence: Sequence
    offsets: NDArray[np.int64]
    length: int
    closed: bool
    lists: RaggedIds | None = None

    @property
    def rows(self) -> int:
        return len(self.offsets)

    def scored_upto(self, next_row: int) -> int:
        """Log tokens behind which every row is committed."""
        return int(self.offsets[next_row]) if next_row < self.rows else self.length

    def unscored_tokens(self, task: teacher_pb2.ScoreTask, next_row: int) -> int:
        """What an engine still has to read for the rows that are known; all before a task's first row is read with it."""
        end = min(task.want.window.end, self.rows) if task.want.HasField("window") else self.rows
        if next_row >= end:
            return 0
        read = int(self.sequence.targets[next_row]) - 1 if next_row > first_row(task) else 0
        return int(self.sequence.targets[end - 1]) - read


@dataclass(frozen=True, slots=True)
class Chunk:
    """The next rows of a task to score. `more`: further rows are known already; `last`: none will ever follow."""

    want: common_pb2.Want
    start: int
    end: int
    more: bool
    last: bool


def inline_view(task: teacher_pb2.ScoreTask) -> TaskView:
    """A sequence that came with the task is complete."""
    sequence = wire.sequence_from_proto(task.inline, "task.inline")
    return TaskView(sequence, sequence.targets, len(sequence.ids), closed=True)


def log_view(task: teacher_pb2.ScoreTask, entries: Entries[rollout_pb2.LogEntry], *, closed: bool) -> TaskView:
    """The sequence as the task's view reads the log."""
    replaced = {one.turn: wire.ids_from_proto(one.context, "task.turn_contexts") for one in task.turn_contexts}
    segments = [Segment("context", wire.ids_from_proto(task.context, "task.context"))] if task.context.u32le else []
    offsets, lists, length, turns, in_turn = [NO_LIST.astype(np.int64)], [], 0, 0, False
    for entry in entries:
        if entry.WhichOneof("body") != "segment":
            continue
        segment = wire.segment_from_proto(entry.segment, "entry.segment")
        if segment.kind == "response":
            if not in_turn and turns in replaced:
                segments.append(Segment("context", replaced[turns]))
            turns, in_turn = turns + (not in_turn), True
            segments.append(segment)
            offsets.append(np.arange(entry.offset, entry.offset + len(segment.ids)))
            if task.want.log_candidates:
                lists.append(_lists_of(entry, len(segment.ids)))
        else:
            in_turn = False
            if turns not in replaced:
                segments.append(segment)
        length = entry.offset + len(segment.ids)
    joined = join_lists(lists) if task.want.log_candidates else None
    return TaskView(Sequence(tuple(segments)), np.concatenate(offsets), length, closed, joined)


def next_chunk(task: teacher_pb2.ScoreTask, view: TaskView, next_row: int, max_rows: int) -> Chunk | None:
    """The rows to score now; None when everything known is scored. The row after the last one comes with the close only."""
    want = task.want
    limit = min(want.window.end, view.rows) if want.HasField("window") else view.rows
    with_next = want.next and view.closed
    if next_row >= limit + with_next:
        return None
    end = min(limit, next_row + max_rows)
    complete = view.closed or (want.HasField("window") and want.window.end <= view.rows)
    chunk = common_pb2.Want()
    chunk.CopyFrom(want)
    chunk.next = bool(with_next and end == limit)
    chunk.window.start, chunk.window.end = next_row, end
    lists = _chunk_lists(task, view, chunk)
    if lists is not None:
        chunk.candidates.CopyFrom(wire.ragged_to_proto(lists))
    return Chunk(chunk, next_row, end + chunk.next, more=end < limit, last=complete and end == limit)


def join_lists(lists: Entries[RaggedIds]) -> RaggedIds:
    """The lists of consecutive rows as one."""
    return RaggedIds.from_rows([one.row(r) for one in lists for r in range(one.row_count)])


def _chunk_lists(task: teacher_pb2.ScoreTask, view: TaskView, chunk: common_pb2.Want) -> RaggedIds | None:
    start, end = chunk.window.start, chunk.window.end
    if view.lists is not None:
        cut = view.lists.rows_between(start, end)
        return join_lists([cut, RaggedIds.from_rows([NO_LIST])]) if chunk.next else cut
    if not task.want.HasField("candidates"):
        return None
    given = wire.ragged_from_proto(task.want.candidates, "want.candidates")
    first = task.want.window.start if task.want.HasField("window") else 0
    stop = end - first + chunk.next
    if stop > given.row_count:
        raise InvalidArgument(
            "want.candidates has fewer lists than the window has rows",
            field="want.candidates",
            value=f"{given.row_count} lists",
            limit=f"{stop} lists",
        )
    return given.rows_between(start - first, stop)


def _lists_of(entry: rollout_pb2.LogEntry, tokens: int) -> RaggedIds:
    lists = wire.ragged_from_proto(entry.candidates, "entry.candidates") if entry.HasField("candidates") else None
    if lists is None or lists.row_count != tokens:
        raise InvalidArgument(
            "the response log does not carry candidates for every token",
            field="want.log_candidates",
            value=f"{lists.row_count if lists else 0} lists at offset {entry.offset}",
            limit=f"{tokens} lists",
            hint="the rollout must be asked for student top-k ids",
        )
    return lists
