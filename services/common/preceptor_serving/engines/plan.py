"""What a want means for one sequence, after the checks that are the same for every engine."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from preceptor.errors import InvalidArgument, TooLarge, Unsupported
from preceptor.types import Capabilities, ModelInfo, RaggedIds, Sequence, TailOf, Want
from preceptor_serving.engines.protocol import ScoreItem

NO_TARGET = -1


@dataclass(frozen=True, slots=True)
class RowPlan:
    """The rows to score, in order: row start + i is the distribution after ids[:prefix_tokens[i]], its target is targets[i].

    The last one is row R, without a target, where `has_next` says so.
    """

    start: int
    prefix_tokens: NDArray[np.int64]
    targets: NDArray[np.int64]
    has_next: bool
    candidates: RaggedIds | None

    def __len__(self) -> int:
        return len(self.prefix_tokens)

    @property
    def rows(self) -> NDArray[np.int64]:
        """The row indices."""
        return np.arange(self.start, self.start + len(self))


def plan_item(item: ScoreItem, info: ModelInfo) -> RowPlan:
    """The plan of one item; `InvalidArgument`, `TooLarge` or `Unsupported` names the field that stands in the way."""
    _check_ids(item.sequence, info)
    _check_capabilities(item.want, info.capabilities)
    _check_numbers(item.want, info)
    start, end = _window(item.sequence, item.want)
    prefix_tokens = item.sequence.targets[start:end]
    targets = item.sequence.ids[prefix_tokens].astype(np.int64)
    if item.want.next:
        prefix_tokens = np.append(prefix_tokens, len(item.sequence.ids))
        targets = np.append(targets, NO_TARGET)
    if len(prefix_tokens) and prefix_tokens[0] == 0:
        _refuse("sequence.segments[0]", "a response token at index 0", "context before it", "nothing predicts the first token")
    candidates = _candidates(item.want, len(prefix_tokens), info)
    return RowPlan(start, prefix_tokens, targets, item.want.next, candidates)


def _check_ids(sequence: Sequence, info: ModelInfo) -> None:
    limit = info.capabilities.max_sequence_tokens
    if len(sequence.ids) > limit:
        count = f"{len(sequence.ids)} tokens"
        raise TooLarge(
            f"the sequence has {count}; the limit is {limit}", field="sequence", value=count, limit=f"<= {limit} tokens"
        )
    if len(sequence.targets) and sequence.targets[0] == 0:
        _refuse("sequence.segments[0]", "a response token at index 0", "context before it", "nothing predicts the first token")
    for index, segment in enumerate(sequence.segments):
        at = int(np.argmax(segment.ids >= info.tokenizer_size)) if len(segment.ids) else 0
        if len(segment.ids) and segment.ids[at] >= info.tokenizer_size:
            where = f"sequence.segments[{index}].{segment.kind}[{at}]"
            _refuse(where, int(segment.ids[at]), f"< {info.tokenizer_size}", "the tokenizer has no such id")


def _check_capabilities(want: Want, can: Capabilities) -> None:
    for field, asked, most in _asked(want, can):
        if asked > most:
            limit = str(most) if most > 1 else "not served"
            raise Unsupported(f"want.{field}: this engine cannot serve {asked}", field=f"want.{field}", value=asked, limit=limit)
    if want.grade not in can.grades:
        names = " | ".join(str(grade) for grade in can.grades)
        raise Unsupported("want.grade: this engine does not send it", field="want.grade", value=str(want.grade), limit=names)


def _asked(want: Want, can: Capabilities) -> Iterator[tuple[str, int, int]]:
    """Field, what is asked, what there is at most; a flag counts as 0 or 1."""
    yield "sampled", want.sampled, can.sampled
    yield "topk", want.topk, can.max_topk
    yield "entropy", want.entropy, can.entropy
    yield "tail", want.tail is not TailOf.NONE, can.tail
    yield "samples", want.samples, can.max_samples
    yield "hidden", want.hidden, can.hidden
    yield "next", want.next, can.next
    yield "deterministic", want.deterministic, can.deterministic
    if want.candidates is not None and want.candidates.row_count:
        yield "candidates", int(np.diff(want.candidates.offsets.astype(np.int64)).max()), can.max_candidates_per_row


def _check_numbers(want: Want, info: ModelInfo) -> None:
    if want.topk > info.tokenizer_size:
        _refuse("want.topk", want.topk, f"<= {info.tokenizer_size}", "the tokenizer has no more ids")
    if not (want.temperature > 0 and math.isfinite(want.temperature)):
        _refuse("want.temperature", want.temperature, "> 0", "a temperature is a positive number")
    if want.log_candidates:
        _refuse("want.log_candidates", "true", "false", "inline sequences have no response log")
    if want.tail is TailOf.TOPK and not want.topk:
        _refuse("want.tail", "topk", "a want with topk", "there is no top-k list to leave out")
    if want.tail is TailOf.CANDIDATES and want.candidates is None:
        _refuse("want.tail", "candidates", "a want with candidates", "there are no candidates to leave out")


def _window(sequence: Sequence, want: Want) -> tuple[int, int]:
    rows = sequence.row_count
    if want.window is None:
        return 0, rows
    start, end = want.window.start, want.window.end
    if not 0 <= start <= end <= rows:
        _refuse("want.window", f"{start}..{end}", f"0 <= start <= end <= {rows}", "the sequence has no such rows")
    if want.next and end != rows:
        _refuse("want.window.end", end, str(rows), "row R follows the last row")
    return start, end


def _candidates(want: Want, rows: int, info: ModelInfo) -> RaggedIds | None:
    lists = want.candidates
    if lists is None:
        return None
    if lists.row_count != rows:
        _refuse(
            "want.candidates", f"{lists.row_count} lists", f"{rows} lists", "one list for each row of the window, row R included"
        )
    wrong = np.flatnonzero(lists.ids >= info.tokenizer_size)
    if len(wrong):
        _refuse("want.candidates.ids", int(lists.ids[wrong[0]]), f"< {info.tokenizer_size}", "the tokenizer has no such id")
    return lists


def _refuse(field: str, value: object, limit: str, why: str) -> NoReturn:
    raise InvalidArgument(f"{field} is {value}: {why}", field=field, value=value, limit=limit)
