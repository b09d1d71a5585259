"""What jobs have spent at teachers behind an API, and what they may: the ledger's accounts, for `Status`."""

from __future__ import annotations

from collections.abc import Sequence

from preceptor.errors import PreceptorError
from preceptor.logs import get_logger
from preceptor.types import BudgetStatus
from preceptor_teacher.api.calls import Account
from preceptor_teacher.api.calls.records import NANO, Payer
from preceptor_teacher.grading import GradingTeacher
from preceptor_teacher.judges import Judge

log = get_logger("preceptor.budgets")


async def budgets_of(judges: Sequence[GradingTeacher]) -> list[BudgetStatus]:
    """Of each judge: all jobs together, then every job that its ledger knows. A ledger that cannot be read has none, which its
    next call says too."""
    found: list[BudgetStatus] = []
    for judge in judges:
        if isinstance(judge, Judge):
            found += await _of_one(judge)
    return found


async def _of_one(judge: Judge) -> list[BudgetStatus]:
    options, name = judge.spec.options, judge.spec.name
    try:
        accounts = await judge.client.calls.accounts()
    except PreceptorError as error:
        log.warning("ledger_unread", teacher=name, reason=error.message)
        return []
    everybody = sum(accounts, Account(Payer("", "")))
    return [_budget(name, everybody, options.budget_usd), *(_budget(name, one, options.job_budget_usd) for one in accounts)]


def _budget(teacher: str, account: Account, limit_usd: float | None) -> BudgetStatus:
    return BudgetStatus(
        teacher,
        account.payer.tenant,
        account.payer.job,
        account.calls,
        account.spent_nano / NANO,
        account.reserved_nano / NANO,
        account.lost_nano / NANO,
        limit_usd,
    )
