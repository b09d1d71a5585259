"""Trackers get the figures of every step, and those of a package that is not there name the command that brings it."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from preceptor.errors import ConfigurationError, MissingExtra
from preceptor.learner.trackers import TRACKERS, Run, open_tracker, scalars_of, tracking
from tests.unit.preceptor.learner.world import PATIENCE, RUN, World

STEP = {
    "event": "step",
    "step": 3,
    "loss": 0.5,
    "reverse_kl": None,
    "metrics": {"overlap": 0.25},
    "bottleneck": "train",
    "ok": True,
}


def run_of(folder: Path) -> Run:
    return Run(RUN, folder, {"name": "r", "schedule": {"steps": 2}})


class Recorder(ModuleType):
    """Stands in for `wandb` and `trackio`: remembers every call."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def init(self, **given: Any) -> Recorder:
        self.calls.append(("init", given))
        return self

    def log(self, figures: dict[str, float], step: int) -> None:
        self.calls.append(("log", {"figures": figures, "step": step}))

    def finish(self) -> None:
        self.calls.append(("finish", {}))


def test_the_numbers_of_an_event_are_named_by_their_path() -> None:
    assert scalars_of(STEP) == {"loss": 0.5, "metrics/overlap": 0.25}
    evaluation = {"event": "evaluation", "step": 0, "accuracy": 0.5, "samples": [{"right": True}]}
    assert scalars_of(evaluation) == {"evaluation/accuracy": 0.5}
    assert scalars_of({"event": "finished", "step": 3, "seconds": 2.0}) == {}


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_a_run_is_opened_logged_and_closed(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module, seen = Recorder(name), []
    monkeypatch.setitem(sys.modules, name, module)
    with tracking([name, name], run_of(tmp_path), seen.append) as watch:
        watch({"event": "started"})
        watch(STEP)
    kinds = [kind for kind, _ in module.calls]
    assert kinds == ["init", "log", "finish"], "once, however often it was named"
    opened, logged = module.calls[0][1], module.calls[1][1]
    assert (opened["project"], opened["name"], opened["resume"]) == ("r", RUN, "allow")
    assert opened["config"]["schedule"] == {"steps": 2}
    assert logged == {"figures": {"loss": 0.5, "metrics/overlap": 0.25}, "step": 3}
    assert len(seen) == 2, "whoever watches is told as well"


def test_a_tracker_is_closed_when_the_run_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = Recorder("trackio")
    monkeypatch.setitem(sys.modules, "trackio", module)
    with pytest.raises(KeyboardInterrupt), tracking(["trackio"], run_of(tmp_path), lambda _: None):
        raise KeyboardInterrupt
    assert module.calls[-1][0] == "finish"


def test_an_unknown_tracker_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="there is no tracker 'wandbb'") as caught:
        open_tracker("wandbb", run_of(tmp_path))
    assert "wandb" in caught.value.hint


@pytest.mark.parametrize(("name", "module"), [("wandb", "wandb"), ("trackio", "trackio"), ("tensorboard", "tensorboard.summary")])
def test_a_missing_package_names_the_command(name: str, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module.partition(".")[0], None)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtra) as caught:
        open_tracker(name, run_of(tmp_path))
    assert caught.value.hint == f"pip install 'preceptor[{name}]'"


async def test_tensorboard_reads_what_a_run_wrote(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util import tensor_util

    world = World(tmp_path)
    with tracking(["tensorboard"], run_of(tmp_path / RUN), world.events.append) as watch:
        learner = world.learner()
        async with world.working():
            await type(learner)(learner.plan, learner.ports, learner.folder, True, watch, learner.hooks, PATIENCE).run()
    written = EventAccumulator(str(tmp_path / RUN / "tensorboard"))
    written.Reload()
    read = [(one.step, float(tensor_util.make_ndarray(one.tensor_proto))) for one in written.Tensors("rows_scored")]
    assert read == [(event["step"], event["rows_scored"]) for event in world.events if event["event"] == "step"]
    assert {"evaluation/accuracy", "metrics/grad_norm", "seconds/train"} <= set(written.Tags()["tensors"])


def test_every_tracker_has_an_extra_of_its_name() -> None:
    import tomllib

    project = tomllib.loads((Path(__file__).parents[4] / "pyproject.toml").read_text())["project"]
    assert TRACKERS.keys() <= project["optional-dependencies"].keys()
