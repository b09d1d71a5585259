"""The page of a run shows what its events say, finished or not, and lets no text become markup."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from preceptor.cli import run as command
from preceptor.learner import RunFolder
from preceptor.report.chart import Series, line_chart
from preceptor.report.run import CURVES, report_of, write_report
from tests.unit.preceptor.learner.world import RUN, TEACHER, World, plan, recipe
from tests.unit.preceptor.report.test_demo_report import Balance


def balanced(page: str) -> str:
    parser = Balance()
    parser.feed(page)
    assert not parser.open
    return page


@pytest.fixture
async def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.plan = plan(recipe(failed_rollouts_per_step=1) | {"alarms": {"reverse_kl": {"above": 1, "for_steps": 2}}})
    made.rollout.refuse = {(0, 0, 1)}
    made.student.metrics = {"reverse_kl": 1.5, "topk_overlap": 0.25, "mean_response_tokens": 4.0, "student_entropy": 0.0}
    await made.run()
    return made


async def test_a_page_shows_curves_receipts_spending_and_what_went_wrong(world: World) -> None:
    page = balanced(report_of(RunFolder.of(world.root, RUN)))
    for title in ("Held-out accuracy", "Loss", "Reverse KL", "Overlap", "Response length", "Alarms and failures", "Who scored"):
        assert f"<h2>{title}</h2>" in page
    assert "<h2>Entropy</h2>" not in page, "a figure that is nothing but zero has no chart"
    assert "reverse_kl is 1.5, above 1 for 2 steps" in page
    assert "1 rollouts: INVALID_ARGUMENT: too long for this engine" in page
    assert TEACHER in page
    calls = sum(event["grading"]["calls"] for event in world.events if event["event"] == "step")
    assert f'<td>calls</td><td class="number">{calls:,}</td>' in page
    assert "checkpoint_every_steps: 2" in page
    assert "http://" not in page.replace("http://www.w3.org", "")


async def test_a_run_that_is_not_over_has_a_page_too(world: World) -> None:
    folder = RunFolder.of(world.root, RUN)
    folder.summary.unlink()
    lines = folder.events.read_text().splitlines()
    folder.events.write_text("\n".join(lines[:2]) + '\n{"event": "st')
    page = balanced(report_of(folder))
    assert "not finished" in page
    assert "Where the time went" not in page
    folder.events.unlink()
    assert "not started yet" in balanced(report_of(folder))


async def test_what_a_model_wrote_is_text(world: World) -> None:
    folder = RunFolder.of(world.root, RUN)
    events = folder.told()
    for event in events:
        for sample in event.get("samples", ()):
            sample["response"] = "<script>alert(1)</script>"
    folder.events.write_text("".join(json.dumps(event) + "\n" for event in events))
    assert "<script>" not in balanced(report_of(folder))


async def test_the_command_writes_it(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["report", RUN, "--runs", str(world.root)]) == 0
    assert (world.root / RUN / "report.html").read_text() == report_of(RunFolder.of(world.root, RUN))
    write_report(RunFolder.of(world.root, RUN), tmp_path / "elsewhere.html")
    assert (tmp_path / "elsewhere.html").exists()
    assert command(["report", "absent", "--runs", str(world.root)]) == 2
    assert "there is no run" in capsys.readouterr().err


@pytest.mark.parametrize("several", [False, True])
async def test_each_of_several_terms_has_its_loss_and_its_share_of_the_gradient(tmp_path: Path, several: bool) -> None:
    world = World(tmp_path)
    world.student.metrics = {"overlap_advantage": -0.02, "term.kl.loss": 0.5, "term.kl.gradient_share": 0.75}
    if several:
        world.student.metrics |= {"term.dead.loss": 0.0, "term.dead.gradient_share": 0.0}
    await world.run()
    step = next(event for event in world.events if event["event"] == "step")
    assert world.student.metrics.items() <= step["metrics"].items(), "every figure of the student's is in the log"
    page = balanced(report_of(RunFolder.of(world.root, RUN)))
    assert ("<h2>Loss of each term</h2>" in page) is several
    assert ("<title>kl: 75% at 1</title>" in page) is several
    assert ("<title>dead: 0% at 1</title>" in page) is several, "a term that moves nothing is there to be seen"
    assert "<title>mean: -0.02 at 1</title>" in page


def test_an_axis_of_negative_figures_ends_at_zero() -> None:
    chart = line_chart([Series("mean", [(0, -0.25), (4, -1.0)])], "step", "nats")
    marks = re.findall(r'text-anchor="end">([^<]*)<', chart)
    assert marks == ["-1", "-0.75", "-0.5", "-0.25", "0"]


def test_every_chart_has_a_title_of_its_own() -> None:
    assert len({curve.title for curve in CURVES}) == len(CURVES)
