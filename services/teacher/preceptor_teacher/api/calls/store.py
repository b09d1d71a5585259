"""The calls of one provider, from the event loop: one thread does what the disk has to do."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

from preceptor.errors import ConfigurationError, Corrupt, Unavailable
from preceptor_teacher.api.calls.database import CallDatabase
from preceptor_teacher.api.calls.records import Account, Budgets, Payer, Spent
from preceptor_teacher.api.messages import ChatReply
from preceptor_teacher.cache.secrets import TenantSecrets, root_secret

GRACE_S = 60.0  # after a call's own time, before it counts as lost
LOOK_S = 0.2  # before a caller looks again whether calls under way have left room
T = TypeVar("T")


class CallStore:
    """Opened and closed with its client. Nothing is sent that could not be written down."""

    def __init__(self, folder: Path | None, reply_bytes: int, budgets: Budgets) -> None:
        if folder is not None:
            _make(folder)
        self._secrets = TenantSecrets(root_secret(folder, "ledger_folder"))
        self._budgets = budgets
        self._keeps = reply_bytes > 0
        self._thread = ThreadPoolExecutor(1, "calls")
        self._database = CallDatabase(folder, reply_bytes)

    def secret_of(self, tenant: str) -> bytes:
        """What this tenant's requests are named and marked with; it outlives the process where there is a folder."""
        return self._secrets.of(tenant)

    def key_of(self, payer: Payer, *parts: bytes) -> bytes:
        """The name of a request: no tenant can name another's."""
        digest = hmac.new(self.secret_of(payer.tenant), b"request 1\n", hashlib.sha256)
        for part in parts:
            digest.update(len(part).to_bytes(8, "little") + part)
        return digest.digest()

    async def reply(self, key: bytes) -> ChatReply | None:
        """What was answered to an equal request, at no cost."""
        if not self._keeps:
            return None
        body = await self._run(lambda: self._database.reply(key))
        return None if body is None else ChatReply(**json.loads(body), remembered=True)

    async def begin(self, payer: Payer, most_nano: int, timeout_s: float) -> int:
        """Writes down a call before it is sent. Waits where calls under way may use up the budget; `BudgetSpent` beyond it."""
        while True:
            now_s = time.time()
            until_s = now_s + timeout_s + GRACE_S
            call = await self._run(lambda: self._database.begin(payer, most_nano, until_s, now_s, self._budgets))  # noqa: B023
            if call is not None:
                return call
            await asyncio.sleep(LOOK_S)

    async def settle(self, call: int, payer: Payer, spent: Spent, key: bytes = b"", reply: ChatReply | None = None) -> None:
        """Writes down how it ended, and the reply where there is one to keep."""
        kept = (key, _bytes_of(reply)) if reply is not None and self._keeps else None
        await self._run(lambda: self._database.settle(call, payer, spent, kept))

    async def lose(self, call: int, payer: Payer) -> None:
        """Nobody can say what it took."""
        await self._run(lambda: self._database.lose(call, payer))

    async def spent(self, payer: Payer) -> Spent:
        return await self._run(lambda: self._database.spent(payer))

    async def accounts(self) -> list[Account]:
        """How every job stands that ever sent a call."""
        return await self._run(lambda: self._database.accounts(time.time()))

    async def unknown_calls(self) -> int:
        """Calls that may have been paid for nothing."""
        return await self._run(lambda: self._database.unknown_calls(time.time()))

    async def close(self) -> None:
        await self._run(self._database.close)
        self._thread.shutdown(wait=False)

    async def _run(self, work: Callable[[], T]) -> T:
        """A step that was begun is done, also where its caller is cancelled meanwhile."""
        try:
            return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._thread, work))
        except sqlite3.OperationalError as error:
            raise Unavailable(f"the ledger of calls cannot be written: {error}", field="ledger_folder") from error
        except sqlite3.DatabaseError as error:
            raise Corrupt(f"the ledger of calls is damaged: {error}", field="ledger_folder") from error


def _bytes_of(reply: ChatReply) -> bytes:
    """What is the same for everybody who asks: not what it took this time."""
    fields = asdict(reply)
    return json.dumps({name: fields[name] for name in ("text", "finish_reason", "refused")}).encode()


def _make(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"{folder} cannot be made: {error.strerror}", field="ledger_folder", value=str(folder)
        ) from error
