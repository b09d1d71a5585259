"""Steps on one tenant's quota and on the counts of what it used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from preceptor.queue.keys import Flow, quota_key, usage_key
from preceptor.queue.quotas import (
    MAX_JOBS,
    OTHER_JOBS,
    RESERVED_S,
    USAGE_KEPT_S,
    WINDOW_S,
    Answer,
    Counter,
    Move,
    QuotaLimits,
    Usage,
    Verb,
    Verdict,
)
from preceptor.queue.scripts.declared import script
from preceptor.queue.space import Slot
from preceptor.queue.values import QuotaHold, QuotaValue, UsageValue

REMEMBERED_OPS = 64


@script("quota")
def quota(slot: Slot, teacher: str, tenant: str, limits: QuotaLimits, moves: Sequence[Move]) -> list[Answer]:
    """One answer for each move."""
    key = quota_key(teacher, tenant)
    value = slot.ensure(key, QuotaValue)
    _forget(value, slot.now_ms)
    answers = [_move(value, limits, move, slot.now_ms) for move in moves]
    slot.expire(key, RESERVED_S + WINDOW_S + 1)
    return answers


def settle_hold(slot: Slot, flow: Flow, move: Move) -> None:
    """The same settlement as a part of another step. What has ended stays as it ended."""
    value = slot.get(quota_key(flow.teacher, flow.tenant), QuotaValue)
    if value is not None:
        _forget(value, slot.now_ms)
        hold = value.holds.pop(move.effect, None)
        if hold is not None:
            _spend(value, hold, move.tokens)


def count_usage(slot: Slot, flow: Flow, counts: Mapping[Counter, int]) -> None:
    """The counts of one job as a part of another step."""
    key = usage_key(flow.teacher, flow.tenant)
    _count(slot.ensure(key, UsageValue), flow.job, counts)
    slot.expire(key, USAGE_KEPT_S)


@script("usage")
def add_usage(slot: Slot, teacher: str, tenant: str, counts: Usage, op: bytes) -> None:
    """Adds the counts unless this operation has done so before."""
    key = usage_key(teacher, tenant)
    value = slot.ensure(key, UsageValue)
    if op not in value.ops:
        value.ops = [op, *value.ops][:REMEMBERED_OPS]
        for job, counted in counts.items():
            _count(value, job, counted)
    slot.expire(key, USAGE_KEPT_S)


@script("usage")
def read_usage(slot: Slot, teacher: str, tenant: str) -> dict[str, dict[Counter, int]]:
    """All counts, job by job."""
    value = slot.get(usage_key(teacher, tenant), UsageValue)
    return {job: dict(counts) for job, counts in value.jobs.items()} if value is not None else {}


def _count(value: UsageValue, job: str, counts: Mapping[Counter, int]) -> None:
    known = job in value.jobs or len(value.jobs) < MAX_JOBS
    row = value.jobs.setdefault(job if known else OTHER_JOBS, {})
    for counter, count in counts.items():
        row[counter] = row.get(counter, 0) + count


def _forget(value: QuotaValue, now_ms: int) -> None:
    """Seconds outside the window, and what nobody renewed. After a clock that went back a reservation ends no later than anew."""
    now_s, latest_ms = now_ms // 1000, now_ms + int(RESERVED_S * 1000)
    value.seconds = {second: spent for second, spent in value.seconds.items() if abs(now_s - second) <= WINDOW_S}
    value.holds = {
        effect: replace(hold, expires_ms=min(hold.expires_ms, latest_ms))
        for effect, hold in value.holds.items()
        if hold.expires_ms > now_ms
    }


def _move(value: QuotaValue, limits: QuotaLimits, move: Move, now_ms: int) -> Answer:
    hold = value.holds.get(move.effect)
    if hold is None and move.verb is Verb.RESERVE:
        return _reserve(value, limits, move, now_ms)
    if hold is None or (move.verb is not Verb.RESERVE and move.owner not in hold.owners):
        return Answer(Verdict.GONE)
    others = tuple(owner for owner in hold.owners if owner != move.owner)
    if move.verb is not Verb.SETTLE:  # a repeated reservation is the same one
        value.holds[move.effect] = replace(hold, expires_ms=now_ms + int(RESERVED_S * 1000), owners=(*others, move.owner))
    elif others:
        value.holds[move.effect] = replace(hold, owners=others)
    else:
        del value.holds[move.effect]
        _spend(value, hold, move.tokens)
    return Answer(Verdict.DONE)


def _spend(value: QuotaValue, hold: QuotaHold, tokens: int) -> None:
    """So many it were in truth."""
    if hold.second in value.seconds:  # else it has left the window already
        value.seconds[hold.second] += tokens - hold.tokens


def _reserve(value: QuotaValue, limits: QuotaLimits, move: Move, now_ms: int) -> Answer:
    places = sum(hold.places for hold in value.holds.values())
    if limits.in_flight and places + move.places > limits.in_flight:
        return Answer(Verdict.PLACES, places)
    spent = sum(value.seconds.values())
    if limits.tokens_per_minute and spent + move.tokens > limits.tokens_per_minute:
        excess = spent + move.tokens - limits.tokens_per_minute
        return Answer(Verdict.TOKENS, spent, _room_in_ms(value, excess, now_ms))
    second = now_ms // 1000
    value.holds[move.effect] = QuotaHold(now_ms + int(RESERVED_S * 1000), second, move.tokens, move.places, (move.owner,))
    value.seconds[second] = value.seconds.get(second, 0) + move.tokens
    return Answer(Verdict.DONE)


def _room_in_ms(value: QuotaValue, excess: int, now_ms: int) -> int:
    """When enough of what is spent has left the window; its whole length where that is never enough."""
    for second, spent in sorted(value.seconds.items()):
        excess -= spent
        if excess <= 0:
            return (second + WINDOW_S + 1) * 1000 - now_ms
    return WINDOW_S * 1000
