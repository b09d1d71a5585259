"""The lmdb file of a folder: opened, checked, or begun anew where it is broken and nobody else uses it."""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from preceptor.errors import ConfigurationError
from preceptor.extras import require
from preceptor.logs import get_logger
from preceptor_teacher.cache.eviction import PAGE_BYTES, Tables

DATA, LOCK, USERS = "data.mdb", "lock.mdb", "users"
MAX_READERS = 512
FIELD = "score_cache_folder"

log = get_logger("preceptor.cache")


@dataclass(frozen=True, slots=True)
class Opened:
    """An open file, its tables, the errors it raises, and how often it had to be begun anew."""

    env: Any
    tables: Tables
    error: type[Exception]
    full: type[Exception]
    users: int  # descriptor that holds the shared lock
    corrupt: int

    def close(self) -> None:
        self.env.close()
        os.close(self.users)


def open_environment(folder: Path, disk_bytes: int) -> Opened:
    """The file of the folder, never larger than `disk_bytes`."""
    lmdb = require("lmdb", extra="teacher")
    users = os.open(folder / USERS, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(users, fcntl.LOCK_SH)
        _check_size(folder / DATA, disk_bytes)
        broken = _broken(lmdb, folder, disk_bytes)
        if broken:
            _begin_anew(folder, users, broken)
        env = _open(lmdb, folder, disk_bytes)
        env.reader_check()  # readers that were killed
        names = ("entries", "order", "numbers", "marks", "counts")
        tables = Tables(*(env.open_db(name.encode()) for name in names))
        return Opened(env, tables, lmdb.Error, lmdb.MapFullError, users, corrupt=bool(broken))
    except lmdb.Error as error:
        os.close(users)
        raise ConfigurationError(f"the score cache cannot be opened: {error}", field=FIELD, value=str(folder)) from error
    except BaseException:
        os.close(users)
        raise


def _open(lmdb: Any, folder: Path, disk_bytes: int) -> Any:
    size = disk_bytes - disk_bytes % PAGE_BYTES
    return lmdb.open(str(folder), map_size=size, max_dbs=8, metasync=False, readahead=False, mode=0o600, max_readers=MAX_READERS)


def _check_size(data: Path, disk_bytes: int) -> None:
    size = data.stat().st_size if data.exists() else 0
    if size > disk_bytes:
        raise ConfigurationError(
            f"the score cache holds {size} bytes already",
            field="score_cache_disk_bytes",
            value=disk_bytes,
            limit=f">= {size}",
            hint=f"allow more, or remove {data.name} and {LOCK} while no teacher uses {data.parent}",
        )


def _broken(lmdb: Any, folder: Path, disk_bytes: int) -> str:
    """Why the file cannot be used. A file that was cut off would end the process at the first page that is missing."""
    data = folder / DATA
    if not data.exists():
        return ""
    try:
        with _open(lmdb, folder, disk_bytes) as env:
            due = (env.info()["last_pgno"] + 1) * env.stat()["psize"]
    except (lmdb.InvalidError, lmdb.CorruptedError, lmdb.VersionMismatchError) as error:
        return str(error)
    size = data.stat().st_size
    return f"{size} bytes where {due} are due" if size < due else ""


def _begin_anew(folder: Path, users: int, why: str) -> None:
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ConfigurationError(
            f"the score cache is broken ({why}) and another process uses it",
            field=FIELD,
            value=str(folder),
            hint="stop every teacher that uses this folder, then start one",
        ) from error
    log.error("score_cache_begun_anew", folder=str(folder), why=why)
    for name in (DATA, LOCK):
        (folder / name).unlink(missing_ok=True)
    fcntl.flock(users, fcntl.LOCK_SH)
