"""Disks that fail or stop on purpose. They are given to the journal; nothing of `os` is replaced."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from preceptor.journal import Disk


class Crash(BaseException):
    """The process died here."""


class QuickDisk(Disk):
    """Does not wait for the device: for tests that damage files themselves, hundreds of times."""

    def sync(self, descriptor: int) -> None:
        """Nothing."""

    def sync_folder(self, folder: Path) -> None:
        """Nothing."""


class CountingDisk(QuickDisk):
    """Counts its steps, and dies before step `die_at`; from then on nothing reaches the disk."""

    def __init__(self, die_at: int | None = None) -> None:
        self.steps = 0
        self.die_at = die_at
        self.dead = False

    def _step(self) -> None:
        if self.dead or self.steps == self.die_at:
            self.dead = True
            raise Crash
        self.steps += 1

    def create(self, path: Path) -> int:
        self._step()
        return super().create(path)

    def write(self, descriptor: int, data: bytes, offset: int) -> None:
        self._step()
        super().write(descriptor, data, offset)

    def sync(self, descriptor: int) -> None:
        self._step()
        super().sync(descriptor)

    def truncate(self, descriptor: int, length_bytes: int) -> None:
        self._step()
        super().truncate(descriptor, length_bytes)

    def rename(self, source: Path, target: Path) -> None:
        self._step()
        super().rename(source, target)

    def remove(self, path: Path) -> None:
        self._step()
        super().remove(path)

    def sync_folder(self, folder: Path) -> None:
        self._step()
        super().sync_folder(folder)


class StoppingDisk(Disk):
    """Dies at the named point of a compaction."""

    def __init__(self, point: str) -> None:
        self.point = point
        self.armed = False

    def reached(self, point: str) -> None:
        if self.armed and point == self.point:
            raise Crash


class FullDisk(Disk):
    """Takes `room_bytes` more bytes, then says that it is full, in the middle of a write like a real one."""

    def __init__(self) -> None:
        self.room_bytes: int | None = None
        self.sync_error: int | None = None

    def write(self, descriptor: int, data: bytes, offset: int) -> None:
        if self.room_bytes is None:
            return super().write(descriptor, data, offset)
        super().write(descriptor, data[: self.room_bytes], offset)
        if len(data) > self.room_bytes:
            self.room_bytes = 0
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.room_bytes -= len(data)
        return None

    def sync(self, descriptor: int) -> None:
        if self.sync_error is not None:
            raise OSError(self.sync_error, os.strerror(self.sync_error))
        super().sync(descriptor)
