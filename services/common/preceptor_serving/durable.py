"""Files and folders that are there, whole, or not there: a kill at any instruction leaves one of the two behind."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from preceptor.errors import Exhausted

TEMPORARY_PREFIX = ".tmp-"
_FULL = (errno.ENOSPC, errno.EDQUOT)
_OF_RUST = re.compile(r"\(os error ([0-9]+)\)")  # in the text of what safetensors raises, which is no OSError


def write_file(path: Path, content: bytes) -> None:
    """Puts the content in place of whatever the path held; durable when it returns."""
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{path.name}")
    with told_when_full(path):
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)


@contextmanager
def new_folder(final: Path) -> Generator[Path]:
    """A temporary folder to fill; it becomes `final`, durable, when the block ends, and vanishes when the block fails.

    A folder that is already there under the final name is replaced.
    """
    temporary = final.with_name(f"{TEMPORARY_PREFIX}{final.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    with told_when_full(final):
        make_folder(final.parent)
        temporary.mkdir()
        try:
            yield temporary
            for file in temporary.iterdir():
                sync_file(file)
            sync_folder(temporary)
            if final.exists():
                shutil.rmtree(final)
            temporary.rename(final)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        sync_folder(final.parent)


def make_folder(folder: Path) -> None:
    """The folder and its parents; durable when it returns."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def remove_leftovers(folder: Path) -> None:
    """Removes what a kill left half written. Only for the one process that writes here."""
    for path in folder.glob(f"{TEMPORARY_PREFIX}*"):
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def sync_file(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def told_when_full(path: Path) -> Generator[None]:
    """A full disk as `Exhausted`; what was there before still is."""
    try:
        yield
    except Exception as error:
        number = _errno_of(error)
        if number not in _FULL:
            raise
        raise Exhausted(
            f"no room for {path.name}: {os.strerror(number)}",
            field="disk",
            value=str(path.parent),
            hint="free some space, then try again",
        ) from error


def _errno_of(error: Exception) -> int:
    """The system's number of what failed; 0 where it was something else."""
    if isinstance(error, OSError):
        return error.errno or 0
    found = _OF_RUST.search(str(error))
    return int(found[1]) if found else 0
