"""What stands before one teacher's queue: known items are answered, new results kept, equal items in flight computed once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence

from preceptor import wire
from preceptor.types import ModelInfo, ModelRef, ScoreItem
from preceptor_proto.v1 import teacher_pb2
from preceptor_serving.engine_host.channel import EngineSpec
from preceptor_serving.scheduler.types import Task
from preceptor_teacher.cache.lookup import Lookup, as_hit, entries_of, lookup_of, result_of
from preceptor_teacher.cache.tiers import Found, ScoreCache
from preceptor_teacher.tickets import Ticket

WHERE_NOT_WHAT = ("name", "folder")  # options of an engine that do not change what it computes
Keys = tuple[bytes, ...]


class CacheFront:
    """One teacher's side of the cache. `options` tells engines apart that receipts call by one name: threads, devices."""

    def __init__(self, cache: ScoreCache, options: str) -> None:
        self._cache = cache
        self._options = options
        self._leaders: dict[Keys, Ticket] = {}
        self._followers: dict[str, list[Ticket]] = {}

    # ---- before the queue

    async def look_up(self, tickets: Sequence[Ticket], infos: Sequence[ModelInfo]) -> None:
        """Resolves the tickets whose rows are all known; the others are told under which keys theirs are kept."""
        known = {info.model: info for info in infos}
        lookups = await asyncio.to_thread(lambda: [self._lookup(ticket, known) for ticket in tickets])
        found = await self._cache.find([key for lookup in lookups if lookup for key in lookup.keys])
        for ticket, lookup in zip(tickets, lookups, strict=True):
            ticket.lookup = lookup
            if lookup is not None:
                self._answer(ticket, lookup, [found[key] for key in lookup.keys if key in found])

    def _lookup(self, ticket: Ticket, known: Mapping[ModelRef, ModelInfo]) -> Lookup | None:
        info = known.get(ticket.version)
        if info is None or info.capabilities.echo_logprobs:
            return None  # a server may have other weights tomorrow under the same name
        item = ScoreItem(wire.sequence_from_proto(ticket.item.sequence), wire.want_from_proto(ticket.item.want))
        engine = f"{info.engine} {info.engine_version} {self._options}"
        grows = ticket.growth is not None and ticket.growth.open
        return lookup_of(item, info, engine, self._cache.secrets.of(ticket.task.flow.tenant), grows=grows)

    def _answer(self, ticket: Ticket, lookup: Lookup, found: Sequence[Found]) -> None:
        if len(found) < len(lookup.keys):
            return
        tier = max(one.tier for one in found)
        self._cache.hits[tier] += 1
        ticket.resolve(result_of(lookup, [one.value for one in found], tier))

    # ---- in flight

    def follow(self, ticket: Ticket) -> bool:
        """True where the same is being computed already: the ticket ends with that one.

        Only inside a flow and behind an earlier deadline: nobody waits for work that the scheduler would serve after his own.
        """
        if ticket.lookup is None:
            return False
        leader = self._leaders.get(ticket.lookup.keys)
        if leader is None or not _may_follow(ticket.task, leader.task):
            self._cache.misses += 1
            return False
        self._followers[leader.task.task_id].append(ticket)
        return True

    def lead(self, ticket: Ticket) -> None:
        """The ticket is queued: equal ones may follow it."""
        if ticket.lookup is not None and ticket.lookup.keys not in self._leaders:
            self._leaders[ticket.lookup.keys] = ticket
            self._followers[ticket.task.task_id] = []

    def keep(self, ticket: Ticket, result: teacher_pb2.ScoreResult) -> None:
        """Remembers a result, and gives it to those who wait for the same."""
        if ticket.lookup is None or not result.HasField("rows"):
            return
        self._cache.keep(entries_of(ticket.lookup, result.rows))
        for follower in self.leave(ticket):
            self._cache.shared += 1
            follower.resolve(as_hit(result))

    def leave(self, ticket: Ticket) -> Sequence[Ticket]:
        """The ticket has ended: those who waited for it and still want an answer."""
        followers = self._followers.pop(ticket.task.task_id, None)
        if followers is None or ticket.lookup is None:
            return ()
        del self._leaders[ticket.lookup.keys]
        return [one for one in followers if not one.result.done()]


def _may_follow(task: Task, leader: Task) -> bool:
    return not (task.suspect or leader.suspect) and task.flow == leader.flow and leader.deadline_s <= task.deadline_s


def front_of(cache: ScoreCache, spec: EngineSpec) -> CacheFront:
    """The side of the cache for the engine of a specification."""
    options = {name: value for name, value in spec.options.items() if name not in WHERE_NOT_WHAT}
    return CacheFront(cache, json.dumps(options, sort_keys=True, default=str))
