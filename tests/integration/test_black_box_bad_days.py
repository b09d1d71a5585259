"""A run against a provider on bad days, and a run whose budget ends before it does."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from preceptor.errors import BudgetSpent
from preceptor_teacher.testing import FaultPlan, StandIn, standing_in
from tests.integration import test_black_box as black_box
from tests.support.models import BUNDLED_TEACHER

pytestmark = [
    pytest.mark.skipif(not BUNDLED_TEACHER.exists(), reason="the bundled pair is not there"),
    pytest.mark.slow,
    pytest.mark.timeout(300),
]
STORM = {"server_error": 0.3, "rate_limited": 0.1, "truncated": 0.05, "hang": 0.02}
VERDICTS = black_box.STEPS * black_box.PROMPTS * black_box.SAMPLES
PRICE = {"prompt_usd_per_million": 1000.0, "completion_usd_per_million": 1000.0}


def reached_by(monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
    """Further options of the judge, in the operator's file."""
    plain = black_box.environ_of

    def environ_of(runs: Path, provider: StandIn) -> dict[str, str]:
        environ = plain(runs, provider)
        entry = yaml.safe_load((runs / "teachers.yaml").read_text())
        entry["teachers"]["tiny-judge"] |= options
        (runs / "teachers.yaml").write_text(yaml.safe_dump(entry))
        return environ

    monkeypatch.setattr(black_box, "environ_of", environ_of)


async def test_a_run_outlasts_a_storm_and_has_every_verdict(tmp_path, monkeypatch):
    reached_by(monkeypatch, timeout_s=3.0, breaker_open_s=0.5)
    async with standing_in(BUNDLED_TEACHER, faults=FaultPlan(STORM, seed=3)) as provider:
        events = await black_box.learn(tmp_path / "runs", provider)
    steps = [event for event in events if event["event"] == "step"]
    assert [event["step"] for event in steps] == [1, 2]
    assert all(event["grading"]["missing"] == 0 for event in steps)
    seen: Counter[str] = provider.provider.seen
    failed = sum(seen[fault] for fault in STORM)
    assert failed > 0
    assert sum(event["grading"]["calls"] for event in steps) <= seen["chat"]
    assert seen["chat"] - failed <= VERDICTS, "nobody who was answered was asked again"


@pytest.mark.parametrize("through", ["service", "queue"])  # an inline run's queue is gone when it is resumed
async def test_a_spent_budget_stops_a_run_which_goes_on_when_it_is_raised_and_pays_nothing_twice(
    tmp_path, monkeypatch, through: black_box.Through
):
    options = {"price": PRICE, "ledger_folder": str(tmp_path / "ledger")}
    async with standing_in(BUNDLED_TEACHER) as provider:
        reached_by(monkeypatch, **options, job_budget_usd=3.0)
        with pytest.raises(BudgetSpent) as stopped:
            await black_box.learn(tmp_path / "runs", provider, through=through)
        asked = provider.provider.seen["chat"]
        assert 0 < asked < VERDICTS
        assert "job_budget_usd" in stopped.value.field
        monkeypatch.undo()
        reached_by(monkeypatch, **options, job_budget_usd=8000.0)
        events = await asyncio.wait_for(black_box.learn(tmp_path / "runs", provider, resume=True, through=through), 120)
    steps = [event for event in events if event["event"] == "step"]
    assert [event["step"] for event in steps][-1] == black_box.STEPS
    assert provider.provider.seen["chat"] <= VERDICTS, "equal texts are judged once, and no text twice"
