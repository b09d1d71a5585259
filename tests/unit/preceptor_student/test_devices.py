"""Training away from the CPU: on a device that is not there, which refuses to mix with it, every number is the CPU's."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from preceptor.errors import ConfigurationError, NotFound, TooLarge
from preceptor.recipes.load import validate
from preceptor_student import trainer
from preceptor_student.engine import Options
from preceptor_student.ranks.engine import on_cpus
from tests.unit.preceptor_student import stepping
from tests.unit.preceptor_student.test_engine import made_batches, opened, same


@pytest.mark.slow
def test_every_recipe_and_every_kind_of_run_trains_elsewhere_as_on_the_cpu(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.support.student_elsewhere", str(tmp_path)]
    said = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert said.returncode == 0, said.stderr[-3000:]
    apart = json.loads(said.stdout)
    assert apart["recipes"].keys() == {path.stem for path in Path("recipes").glob("*.yaml")}
    assert {name: off for name, off in apart["recipes"].items() if off != 0} == {}
    assert apart["runs"].keys() == {"whole", "packed", "bf16", "adapter"}
    # The optimiser's sums round otherwise there in their last bit, which turns some bf16 weights by one of theirs.
    assert {name: off for name, off in apart["runs"].items() if off > (0.05 if name == "bf16" else 1e-5)} == {}


@pytest.mark.parametrize("device", ["tpu", "meta", "cuda:-2", "cuda"])
def test_a_device_that_is_not_there_is_told_by_name(tmp_path: Path, device: str) -> None:
    if torch.cuda.is_available() and device == "cuda":
        pytest.skip("there is one")
    with pytest.raises(ConfigurationError, match="sees 0 CUDA devices" if device == "cuda" else "do not run on such") as refused:
        stepping.engine(tmp_path, device=device)
    assert (refused.value.field, refused.value.value) == ("device", device)


def test_ranks_take_no_gpu() -> None:
    options = validate(Options, stepping.options(Path("runs")) | {"device": "cuda"}, "options")
    with pytest.raises(ConfigurationError, match="ranks train on CPUs"):
        on_cpus(options)


def test_a_run_says_where_it_trains(tmp_path: Path) -> None:
    student, _ = opened(tmp_path)
    assert student.status("r").device == "cpu"


def test_an_optimiser_that_runs_out_halfway_closes_the_run_and_its_durable_step_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    student, epoch = opened(tmp_path)
    before = stepping.weights_of(student)
    adamw = student._runs["r"].trainer.updater._adamw

    def torn() -> None:
        with torch.no_grad():
            adamw.param_groups[0]["params"][0].add_(1.0)
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(adamw, "step", torn)
    with pytest.raises(TooLarge, match="the optimiser takes more memory"):
        stepping.take_step(student, stepping.recipe(), made_batches(1), epoch, 1)
    with pytest.raises(NotFound, match="not open here"):
        stepping.take_step(student, stepping.recipe(), made_batches(1), epoch, 1)
    stepping.open_run(student, stepping.recipe())
    assert same(stepping.weights_of(student), before)


def test_a_micro_batch_that_does_not_fit_is_told_by_its_tokens_and_moves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    student, epoch = opened(tmp_path)
    before = {name: tensor.clone() for name, tensor in stepping.weights_of(student).items()}

    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        yield

    monkeypatch.setattr(trainer, "update", full)
    with pytest.raises(TooLarge, match="more memory than cpu has free") as refused:
        stepping.take_step(student, stepping.recipe(), made_batches(1), epoch, 1)
    assert refused.value.field == "micro_batches"
    assert str(refused.value.value).endswith(" tokens")
    monkeypatch.undo()
    assert same(stepping.weights_of(student), before)
    stepping.take_step(student, stepping.recipe(), made_batches(1), epoch, 1)
    assert not same(stepping.weights_of(student), before)
