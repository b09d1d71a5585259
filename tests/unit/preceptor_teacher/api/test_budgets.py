"""Budgets in Status: what the ledger knows of each job, over gRPC and REST and on the board."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from preceptor import wire
from preceptor.client import AsyncTeacherClient, GradeOptions
from preceptor.config import TeacherSettings
from preceptor.planning import Price
from preceptor.status_view.board import BUDGETS, budget_cells, budget_table
from preceptor.status_view.standing import Snapshot
from preceptor.types import BudgetStatus, GradeItem, ServiceState, TeacherStatus
from preceptor_serving.run import running
from preceptor_teacher.api import ApiOptions
from preceptor_teacher.api.calls import Account, Payer, Spent
from preceptor_teacher.api.calls.database import CallDatabase
from preceptor_teacher.api.calls.records import Budgets
from preceptor_teacher.api.messages import Tokens
from preceptor_teacher.judges import JudgeSpec
from preceptor_teacher.service import TeacherService
from preceptor_teacher.testing import standing_in
from tests.support.models import BUNDLED_TEACHER

MINE, THEIRS = Payer("acme", "a"), Payer("umbrella", "a")


def test_an_account_parts_what_is_settled_from_what_is_under_way_and_what_is_lost():
    ledger = CallDatabase(None, 0)
    settled, under_way, lost = (ledger.begin(MINE, most, 100.0, 0.0, Budgets()) for most in (10, 20, 40))
    other = ledger.begin(THEIRS, 80, 100.0, 0.0, Budgets())
    assert settled is not None
    assert lost is not None
    assert None not in (under_way, other)
    ledger.settle(settled, MINE, Spent(1, Tokens(3, 4), 7), None)
    ledger.lose(lost, MINE)
    assert ledger.accounts(50.0) == [Account(MINE, 2, 7, 20, 40), Account(THEIRS, 0, 0, 80, 0)]
    assert ledger.accounts(100.0) == [Account(MINE, 2, 7, 0, 60), Account(THEIRS, 0, 0, 0, 80)]
    ledger.close()


@pytest.mark.skipif(not BUNDLED_TEACHER.exists(), reason="the bundled pair is not there")
async def test_status_shows_what_each_job_spent_of_its_budget(tmp_path: Path):
    async with standing_in(BUNDLED_TEACHER) as provider:
        known = {"base_url": provider.base_url, "model": "m", "private_hosts": ("127.0.0.1",), "job_budget_usd": 0.5}
        price = Price(prompt_usd_per_million=2.5, completion_usd_per_million=10.0)
        service = TeacherService((JudgeSpec("judge", ApiOptions(**known, price=price, ledger_folder=tmp_path)),))
        async with (
            running(service, TeacherSettings(grpc_port=0, rest_port=0)) as house,
            AsyncTeacherClient(f"127.0.0.1:{house.grpc_port}") as client,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{house.rest_port}", trust_env=False) as http,
        ):
            costs = {}
            for job, response in (("day", "834"), ("night", "734")):
                [verdict] = await client.grade("judge", [GradeItem("478+356", response)], GradeOptions(job=job))
                costs[job] = getattr(verdict, "cost_usd", None)
            assert min(costs.values()) > 0
            status = await client.status()
            body = (await http.get("/v1/status")).json()
    everybody, *jobs = status.budgets
    assert [(one.tenant, one.job, one.calls, one.spent_usd) for one in jobs] == [
        ("local", job, 1, pytest.approx(cost)) for job, cost in costs.items()
    ]
    assert {(one.teacher, one.limit_usd, one.reserved_usd, one.lost_usd) for one in jobs} == {("judge", 0.5, 0.0, 0.0)}
    assert (everybody.tenant, everybody.job, everybody.calls, everybody.limit_usd) == ("", "", 2, None)
    assert everybody.spent_usd == pytest.approx(sum(costs.values()))
    assert [BudgetStatus(**one) for one in body["budgets"]] == list(status.budgets)


def test_the_board_says_what_is_left_of_a_budget_less_all_that_may_have_been_spent():
    rows = (
        BudgetStatus("judge", "", "", 9, 1.0, 0.0, 0.0),
        BudgetStatus("judge", "acme", "night", 3, 0.25, 0.125, 0.5, 1.0),
        BudgetStatus("judge", "acme", "", 3, 1.25, 0.0, 0.0, 1.0),
    )
    status = wire.teacher_status_from_proto(wire.teacher_status_to_proto(TeacherStatus(ServiceState.READY, "w", budgets=rows)))
    assert status.budgets == rows
    now = Snapshot(0.0, {"a:1": status})
    assert [dict(zip(BUDGETS, row, strict=True)) for row in budget_cells(now)][1] == {
        "teacher": "judge", "at": "a:1", "tenant": "acme", "job": "night", "calls": "3", "spent $": "0.2500",
        "under way $": "0.1250", "maybe paid $": "0.5000", "limit $": "1.0000", "left $": "0.1250",
    }  # fmt: skip
    whose = [(row[2], row[3], row[-1]) for row in budget_cells(now)]
    assert whose == [("all", "all", "-"), ("acme", "night", "0.1250"), ("acme", "-", "0.0000")]
    assert {"spent $", "limit $", "job"} <= set(budget_table(now, 60).columns)
