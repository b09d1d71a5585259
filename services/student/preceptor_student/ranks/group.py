"""The ranks of one training: commands from rank 0 as JSON, data as bytes, and a deadline on every wait. Nothing is pickled.

Commands go through the store that the ranks met at, one key each, so that a follower may wait for as long as rank 0 has nothing
to say: rank 0 says "beat" while it lives. Bytes and sums go over gloo, whose waits end at the group's deadline.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed import PrefixStore, Store  # pyright: ignore[reportPrivateImportUsage] - public by its documentation

from preceptor.errors import PreceptorError, Unavailable, error_from_code

BEATS_IN_DEADLINE = 6
BEAT = "beat"
FAILURE = "failure"


PARTS = ("field", "value", "limit", "hint")
log = logging.getLogger("preceptor.engine")


def _nobody_listens(_: str) -> None:
    """Whoever calls is told by the error."""


class Group:
    """This process's place among the ranks. `lost` says why they are no longer in step; nothing works after that.

    The first rank that fails alone leaves its error at the store, and every other raises the same. `on_lost` is told once, on the
    thread that found out.
    """

    def __init__(self, store: Store, rank: int, ranks: int, deadline_s: float) -> None:
        self.rank, self.ranks, self.deadline_s = rank, ranks, deadline_s
        self.lost, self.is_apart = "", False
        self.on_lost: Callable[[str], None] = _nobody_listens
        self._meeting, self._store = store, PrefixStore("commands", store)
        with self.in_step("joining the ranks"):
            dist.init_process_group("gloo", store=store, rank=rank, world_size=ranks, timeout=timedelta(seconds=deadline_s))
        self._said, self._saying, self._ended = 0, threading.Lock(), threading.Event()
        if rank == 0:
            threading.Thread(target=self._beat, name="beat", daemon=True).start()

    @contextmanager
    def in_step(self, what: str) -> Generator[None]:
        """An error that only this rank can have parts it from the others. What has no code of its own is `Unavailable`."""
        if self.lost:
            raise self._parted()
        try:
            yield
        except PreceptorError as error:
            if self.lost or not self.is_apart or (told := self._leaving(error, error.message)) is error:
                raise
            raise told from error
        except Exception as error:
            why = f"{what}: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no more is known'}"
            raise self._leaving(self._parted(why), why) from error

    @contextmanager
    def apart(self) -> Generator[None]:
        """A block in which an error of any kind may be this rank's alone."""
        try:
            yield
        except Exception:
            self.is_apart = True
            raise

    # ---- commands

    def say(self, command: dict[str, Any], *payloads: bytes) -> None:
        """Rank 0: the next command, and the bytes that go with it."""
        sizes = [len(payload) for payload in payloads]
        with self.in_step(f"saying {command['do']!r}"):
            self._put(command | {"bytes": sizes})
            for payload in payloads:
                if payload:
                    dist.broadcast(torch.frombuffer(bytearray(payload), dtype=torch.uint8), 0)

    def hear(self) -> tuple[dict[str, Any], list[bytes]]:
        """A follower: the next command that is not a beat."""
        with self.in_step("waiting for rank 0"):
            while (command := self._take())["do"] == BEAT:
                pass
            return command, [self._bytes(size) for size in command["bytes"]]

    def end(self) -> None:
        """Leaves the group; to be called by every rank that is still in step."""
        self._ended.set()
        if not self.lost:
            dist.destroy_process_group()

    # ---- all ranks at once

    def together(self, plain: Any) -> list[Any]:
        """What every rank has to say, in the order of the ranks."""
        mine = json.dumps(plain).encode()
        sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.ranks)]
        dist.all_gather(sizes, torch.tensor([len(mine)]))
        width = int(max(sizes))
        rows = [torch.zeros(width, dtype=torch.uint8) for _ in range(self.ranks)]
        dist.all_gather(rows, torch.frombuffer(bytearray(mine.ljust(width)), dtype=torch.uint8))
        return [json.loads(row.numpy().tobytes()) for row in rows]

    @contextmanager
    def agreed(self, what: str) -> Generator[None]:
        """A block that every rank runs by itself: where one of them fails, all do with its error, and they stay in step."""
        with self.in_step(what):
            failure: PreceptorError | None = None
            try:
                yield
            except PreceptorError as error:
                failure = error
            said = self.together(None if failure is None else self._plain(failure, failure.message))
        if failure is not None:
            raise failure
        for plain in said:
            if plain is not None:
                raise _told(plain)

    # ---- inside

    def _put(self, command: dict[str, Any]) -> None:
        if self.ranks == 1:
            return  # nobody would take it away
        with self._saying:
            self._store.set(f"{self._said}", json.dumps(command))
            self._said += 1

    def _take(self) -> dict[str, Any]:
        key = f"{self._said}"
        self._store.wait([key], timedelta(seconds=self.deadline_s))
        self._said += 1
        command = json.loads(self._store.get(key))
        if self._store.add(f"{key}/heard", 1) == self.ranks - 1:  # the last of the followers: nobody reads it any more
            for done in (key, f"{key}/heard"):
                self._store.delete_key(done)
        return command

    def _bytes(self, size: int) -> bytes:
        if not size:
            return b""
        buffer = torch.empty(size, dtype=torch.uint8)
        dist.broadcast(buffer, 0)
        return buffer.numpy().tobytes()

    def _beat(self) -> None:
        while not self._ended.wait(self.deadline_s / BEATS_IN_DEADLINE) and not self.lost:
            with self.in_step("telling that rank 0 lives"):
                self._put({"do": BEAT})

    def _leaving(self, own: PreceptorError, why: str) -> PreceptorError:
        """The error that all ranks end with: this one's, or that of another which failed before it."""
        plain = self._plain(own, why)
        try:
            first = json.loads(self._meeting.compare_set(FAILURE, "", json.dumps(plain)))
        except Exception as error:  # the store has gone with whoever held it
            log.info("the other ranks are not told why: %s", error)
            first = plain
        told = own if first["rank"] == self.rank else _told(first)
        self.lost = why if told is own else told.message
        self.on_lost(self.lost)
        return told

    def _plain(self, error: PreceptorError, why: str) -> dict[str, Any]:
        return {"rank": self.rank, "code": error.code, "why": why, "parts": {part: getattr(error, part) for part in PARTS}}

    def _parted(self, why: str = "") -> Unavailable:
        return Unavailable(f"the ranks are no longer in step: {why or self.lost}", field="ranks", value=self.rank,
                           limit=f"{self.ranks} ranks, {self.deadline_s:g} s", hint="start all of them again")  # fmt: skip


def _told(plain: dict[str, Any]) -> PreceptorError:
    """The error of another rank."""
    return error_from_code(plain["code"], f"rank {plain['rank']}: {plain['why']}", **plain["parts"])
