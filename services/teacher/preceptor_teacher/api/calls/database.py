"""The file of one provider's calls: sqlite, because several processes of a machine write it and any of them may be killed.

calls    a call that is written here before it is sent; it leaves with its reply. What is still here after its time was sent by
         a process that died, or got no readable reply: it may have been paid, so it counts as if it had been.
spent    what settled calls took, by tenant and job
replies  key of a request -> what was answered; the oldest leave first
"""

from __future__ import annotations

import sqlite3
from dataclasses import astuple
from pathlib import Path

from preceptor.errors import BudgetSpent
from preceptor_teacher.api.calls.records import NANO, Account, Budgets, Payer, Spent
from preceptor_teacher.api.messages import Tokens

FILE = "calls.sqlite"
BUSY_S = 5.0  # for another process's transaction

_SCHEMA = """
CREATE TABLE IF NOT EXISTS calls (
    id INTEGER PRIMARY KEY, tenant TEXT NOT NULL, job TEXT NOT NULL, most INTEGER NOT NULL, until_s REAL NOT NULL);
CREATE TABLE IF NOT EXISTS spent (
    tenant TEXT NOT NULL, job TEXT NOT NULL, calls INTEGER NOT NULL, prompt INTEGER NOT NULL, completion INTEGER NOT NULL,
    cached INTEGER NOT NULL, written INTEGER NOT NULL, nano INTEGER NOT NULL, PRIMARY KEY (tenant, job)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS replies (key BLOB PRIMARY KEY, at INTEGER NOT NULL, body BLOB NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS oldest ON replies (at);
CREATE TABLE IF NOT EXISTS kept (one INTEGER PRIMARY KEY CHECK (one = 1), bytes INTEGER NOT NULL);
INSERT OR IGNORE INTO kept VALUES (1, 0);
"""
_ADD_SPENT = """
INSERT INTO spent VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (tenant, job) DO UPDATE SET
    calls = calls + excluded.calls, prompt = prompt + excluded.prompt, completion = completion + excluded.completion,
    cached = cached + excluded.cached, written = written + excluded.written, nano = nano + excluded.nano
"""
_ACCOUNTS = """
SELECT tenant, job, SUM(calls), SUM(nano), SUM(reserved), SUM(lost) FROM (
    SELECT tenant, job, calls, nano, 0 AS reserved, 0 AS lost FROM spent
    UNION ALL
    SELECT tenant, job, 0, 0, most * (until_s > :now_s), most * (until_s <= :now_s) FROM calls)
GROUP BY tenant, job ORDER BY tenant, job
"""


class CallDatabase:
    """Synchronous; used by one thread. `folder` None keeps it all in memory."""

    def __init__(self, folder: Path | None, reply_bytes: int) -> None:
        self._reply_bytes = reply_bytes
        self._db = sqlite3.connect(
            str(folder / FILE) if folder else ":memory:", timeout=BUSY_S, isolation_level=None, check_same_thread=False
        )
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        self._db.close()

    def reply(self, key: bytes) -> bytes | None:
        """What was answered to an equal request."""
        found = self._db.execute("SELECT body FROM replies WHERE key = ?", (key,)).fetchone()
        return found[0] if found else None

    def begin(self, payer: Payer, most: int, until_s: float, now_s: float, budgets: Budgets) -> int | None:
        """Writes down that a call is about to be sent. `BudgetSpent` where what is spent leaves no room for it.

        None where only calls under way leave none: they may cost less than they might, so there may be room later.
        """
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            for budget, whose in ((budgets.job, (payer.tenant, payer.job)), (budgets.all, None)):
                if budget is not None and not self._fits(budget, whose, most, now_s):
                    return None
            row = (payer.tenant, payer.job, most, until_s)
            return self._db.execute("INSERT INTO calls (tenant, job, most, until_s) VALUES (?, ?, ?, ?)", row).lastrowid

    def settle(self, call: int, payer: Payer, spent: Spent, reply: tuple[bytes, bytes] | None) -> None:
        """The call has ended: what it took, and its reply under its key, in one step."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute("DELETE FROM calls WHERE id = ?", (call,))
            self._db.execute(_ADD_SPENT, (payer.tenant, payer.job, spent.calls, *astuple(spent.tokens), spent.cost_nano))
            if reply is not None and len(reply[1]) <= self._reply_bytes:
                self._keep(*reply)

    def lose(self, call: int, payer: Payer) -> None:
        """The call has ended, and nobody can say what it took: it stays, as one that may have been paid."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute("UPDATE calls SET until_s = 0 WHERE id = ?", (call,))
            self._db.execute(_ADD_SPENT, (payer.tenant, payer.job, 1, 0, 0, 0, 0, 0))

    def spent(self, payer: Payer) -> Spent:
        """What a job's settled calls took."""
        found = self._db.execute(
            "SELECT calls, prompt, completion, cached, written, nano FROM spent WHERE tenant = ? AND job = ?",
            (payer.tenant, payer.job),
        ).fetchone()
        return Spent(found[0], Tokens(*found[1:5]), found[5]) if found else Spent()

    def accounts(self, now_s: float) -> list[Account]:
        """Of every job that ever sent a call, by tenant and job."""
        return [Account(Payer(tenant, job), *sums) for tenant, job, *sums in self._db.execute(_ACCOUNTS, {"now_s": now_s})]

    def unknown_calls(self, now_s: float) -> int:
        """Calls of which nobody knows whether they were paid."""
        return self._db.execute("SELECT COUNT(*) FROM calls WHERE until_s <= ?", (now_s,)).fetchone()[0]

    # ---- inside a transaction

    def _fits(self, budget: int, whose: tuple[str, str] | None, most: int, now_s: float) -> bool:
        where, values = ("WHERE tenant = ? AND job = ?", whose) if whose else ("", ())
        (settled,) = self._db.execute(f"SELECT COALESCE(SUM(nano), 0) FROM spent {where}", values).fetchone()  # noqa: S608
        lost = f"SELECT COALESCE(SUM(most), 0), COALESCE(SUM(most * (until_s <= ?)), 0) FROM calls {where}"  # noqa: S608
        open_or_lost, lost_nano = self._db.execute(lost, (now_s, *values)).fetchone()
        field = "job_budget_usd" if whose else "budget_usd"
        if settled + lost_nano + most > budget:
            raise BudgetSpent(
                f"the budget of {budget / NANO:g} USD has no room for a further call",
                field=field,
                value=f"{(settled + lost_nano) / NANO:.6f} USD spent",
                limit=f"{budget / NANO:g} USD",
                hint="the operator raises it in the teacher's entry; what was answered so far is kept",
            )
        return settled + open_or_lost + most <= budget

    def _keep(self, key: bytes, body: bytes) -> None:
        """The size of all replies is kept beside them: to sum it up would read the file."""
        self._forget(key)
        (last,) = self._db.execute("SELECT COALESCE(MAX(at), 0) FROM replies").fetchone()
        self._db.execute("INSERT INTO replies VALUES (?, ?, ?)", (key, last + 1, body))
        self._db.execute("UPDATE kept SET bytes = bytes + ?", (len(body),))
        while self._db.execute("SELECT bytes FROM kept").fetchone()[0] > self._reply_bytes:
            (oldest,) = self._db.execute("SELECT key FROM replies ORDER BY at LIMIT 1").fetchone()
            self._forget(oldest)

    def _forget(self, key: bytes) -> None:
        gone = self._db.execute("DELETE FROM replies WHERE key = ? RETURNING LENGTH(body)", (key,)).fetchall()
        for (size,) in gone:
            self._db.execute("UPDATE kept SET bytes = bytes - ?", (size,))
