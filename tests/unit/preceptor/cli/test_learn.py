"""`preceptor learn`: what it refuses before anything starts, how it ends, and what it shows."""

from __future__ import annotations

import json
import os
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from preceptor.cli import learn as learn_module
from preceptor.cli import run
from preceptor.cli.learn_progress import Board, watching
from preceptor.config.settings import ClientSettings
from preceptor.errors import ConfigurationError
from preceptor.learner import Learner
from preceptor.learner.connect import writers_of

ROOT = Path(__file__).parents[4]
RECIPE = str(ROOT / "recipes" / "tiny-reverse-kl.yaml")


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in os.environ:
        if name.startswith("PRECEPTOR_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([RECIPE], "PRECEPTOR_REDIS_URL"),
        ([RECIPE, "schedule.stpes=3"], "did you mean"),
        ([RECIPE, "--control", "shuffle"], "there is no control 'shuffle'"),
        ([RECIPE, "--resume"], "which run shall go on?"),
        ([RECIPE, "--run", "../x"], "run"),
        (["absent.yaml"], "absent.yaml"),
        ([RECIPE, "schedule.prompts_per_step=100000", "--redis-url", "redis://127.0.0.1:1"], "more prompts than the data has"),
    ],
)
def test_mistakes_are_told_and_leave_nothing_behind(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run(["learn", *words]) == 2
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_ends_with_130_and_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    @asynccontextmanager
    async def nothing(_settings: object):
        yield None

    async def interrupted(_self: Learner) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("preceptor.learner.connect.connected", nothing)
    monkeypatch.setattr(Learner, "run", interrupted)
    assert run(["learn", RECIPE, "--run", "mine"]) == 130
    assert "--run mine --resume" in capsys.readouterr().err


def test_without_a_terminal_each_event_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with watching() as watch:
        watch({"event": "step", "step": 1})
    assert json.loads(capsys.readouterr().out) == {"event": "step", "step": 1}


def test_the_board_keeps_the_newest_numbers() -> None:
    board = Board()
    assert board.facts()["held-out accuracy"] == "-"
    board.take({"event": "started", "run": "r", "steps": 9, "step": 0})
    board.take({"event": "evaluation", "step": 0, "accuracy": 0.25, "correct": 1, "asked": 4})
    board.take(
        {
            "event": "step",
            "step": 3,
            "reverse_kl": 0.5,
            "loss": 1.0,
            "grad_norm": None,
            "queue_depth": 2,
            "weight_step": 2,
            "bottleneck": "train",
            "seconds": {"train": 1.5},
            "generated_tokens_per_s": 10.0,
            "scored_rows_per_s": None,
        }
    )
    facts = board.facts()
    assert facts["run"] == "r  step 3 of 9"
    assert facts["reverse KL"] == "0.5000  loss 1.0000  grad norm -"
    assert facts["held-out accuracy"] == "25.0%  (1 of 4 right at step 0)"
    assert facts["bottleneck"] == "train  train 1.50 s"
    assert board.table().row_count == len(facts)


def test_the_board_says_that_it_starts_and_how_far_the_controls_are() -> None:
    board = Board()
    assert board.facts()["run"] == "starting"
    board.take({"event": "started", "run": "r", "steps": 9, "step": 0})
    assert "now, its controls" not in board.facts()
    board.take({"event": "control", "run": "shuffled", "step": 0})
    board.take({"event": "control", "run": "sft", "step": 4})
    board.take({"event": "control", "run": "shuffled", "step": 1})
    assert board.facts()["now, its controls"] == "shuffled 1 of 9, sft 4 of 9"
    assert board.facts()["run"] == "r  step 0 of 9"


def test_the_board_shows_how_far_it_is_who_waits_and_what_went_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 100.0, 160.0, 160.0])
    monkeypatch.setattr("preceptor.cli.learn_progress.time.monotonic", lambda: next(now))
    board = Board()
    board.take({"event": "started", "run": "r", "steps": 12, "step": 4})
    waits = {"idle_seconds": {"generate": 2.0, "train": 0.25}, "ages": {"mean": 0.5, "max": 1}}
    board.take({"event": "step", "step": 6, "seconds": {"train": 1.5}, "bottleneck": "train", **waits})
    facts = board.facts()
    assert facts["progress"] == "━" * 12 + "╌" * 12 + "  3 min 00 s to go", "the steps of an earlier start took no time now"
    assert facts["waiting for others"] == "generate 2.00 s  train 0.25 s"
    assert facts["age"] == "0.5 versions on average, 1 at most"
    assert "trouble" not in facts
    board.take({"event": "skipped", "step": 7, "code": "CONFLICT", "message": "[red]no[/]"})
    board.take({"event": "alarm", "step": 9, "sentence": "entropy is 0, below 0.001 for 3 steps"})
    assert board.facts()["trouble"] == "step 9: entropy is 0, below 0.001 for 3 steps  (2 in all)"


def test_what_a_service_said_is_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    board = Board()
    board.take({"event": "skipped", "step": 7, "code": "CONFLICT", "message": "[red]no[/]"})
    Console(width=120).print(board.table())
    assert "[red]no[/]" in capsys.readouterr().out


def test_writers_are_named_one_by_one() -> None:
    assert writers_of(ClientSettings()) == {}
    assert writers_of(ClientSettings(writers="a=h:1, b=g:2")) == {"a": "h:1", "b": "g:2"}
    with pytest.raises(ConfigurationError, match="'h:1' names nobody"):
        writers_of(ClientSettings(writers="h:1"))


def test_every_control_of_the_plan_has_a_name_on_the_command_line() -> None:
    assert set(learn_module.CONTROLS.values()) == {"none", "permute_scores"}
