"""Every call that the journal makes to the file system, in one object that tests replace with one that fails or stops.

Not one of these calls is optional: a record is safe once `sync` returned, a new or renamed file once `sync_folder` did.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""What the kernel says when a file cannot grow: disk, quota or file size limit."""


class Disk:
    """The real file system. Each method is one step; a crash may come before or after any of them."""

    def create(self, path: Path) -> int:
        """A new, empty file, open for reading and writing. A leftover of the same name is emptied."""
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)

    def open(self, path: Path) -> int:
        """An existing file, open for reading and writing."""
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def write(self, descriptor: int, data: bytes, offset: int) -> None:
        """All of `data` at `offset`, or an OSError after some of it."""
        view = memoryview(data)
        while view:
            written = os.pwrite(descriptor, view, offset)
            offset += written
            view = view[written:]

    def sync(self, descriptor: int) -> None:
        """Contents and length are on the device."""
        os.fsync(descriptor)

    def truncate(self, descriptor: int, length_bytes: int) -> None:
        """Cut, never grown. Works on a full disk."""
        os.ftruncate(descriptor, length_bytes)

    def rename(self, source: Path, target: Path) -> None:
        """Atomic: `target` is either absent or whole."""
        source.rename(target)

    def remove(self, path: Path) -> None:
        """Gone, or was gone already."""
        path.unlink(missing_ok=True)

    def sync_folder(self, folder: Path) -> None:
        """Names in the folder are on the device."""
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def close(self, descriptor: int) -> None:
        """Nothing is written by closing."""
        os.close(descriptor)

    def reached(self, point: str) -> None:
        """Called at each named point of a compaction. The real disk goes on; a test may stop here."""


def is_full(error: OSError) -> bool:
    """True when waiting for space, not repair, is the answer."""
    return error.errno in FULL
