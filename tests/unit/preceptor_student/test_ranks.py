"""One student over several processes: the numbers of one, every bit after going back, and no wait without an end."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from preceptor.errors import Unsupported
from preceptor.recipes import RunConfig
from preceptor.recipes.load import validate
from preceptor.recipes.strict_yaml import parse_yaml
from preceptor_proto.v1 import student_pb2
from preceptor_serving.weights import verify
from preceptor_student.ranks.leading import check_shardable
from tests.unit.preceptor_student import rank_processes, stepping

END_S = 100.0  # a bound on a hang, on a busy machine


def told(story: rank_processes.Story, folder: Path, deadline_s: float = 30.0, ranks: int = 2) -> tuple[dict, list[int | None]]:
    """What rank 0 wrote down, and the exit codes; a rank that does not end is a failure."""
    store = rank_processes.meeting_point()
    processes = rank_processes.started(story, folder, store.port, deadline_s, ranks)
    try:
        processes[0].join(END_S)
        if story is rank_processes.stalled:
            os.kill(processes[1].pid or 0, signal.SIGKILL)
        for process in processes[1:]:
            process.join(END_S)
        codes = [process.exitcode for process in processes]
    finally:
        for process in processes:
            process.kill()
    path = folder / "told.json"
    return json.loads(path.read_text()) if path.exists() else {}, codes


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_ranks_train_as_one_process_does(ranks: int, tmp_path: Path) -> None:
    found, codes = told(rank_processes.training, tmp_path, ranks=ranks)
    assert codes == [0] * ranks
    assert found["same"]
    assert found["local_share"] == pytest.approx(1 / ranks, abs=0.1)
    compiled, alone = stepping.recipe(), stepping.engine(tmp_path / "alone")
    epoch = stepping.open_run(alone, compiled).epoch
    for step, metrics in enumerate(found["metrics"], start=1):
        expected = dict(stepping.take_step(alone, compiled, rank_processes.batches_of(step), epoch, step).metrics)
        assert metrics == pytest.approx(expected, rel=1e-5, abs=1e-7)
    objective = stepping.header(compiled, [], epoch, 4).objective
    request = student_pb2.EvaluateRequest(run="r", objective=objective)
    request.batch.ParseFromString(rank_processes.batches_of(1)[0])
    assert found["evaluated"] == pytest.approx(alone.evaluate(request).metrics["loss"], rel=1e-5)
    alone.publish(student_pb2.PublishRequest(run="r", epoch=epoch))
    ours, theirs = (next((root / "r/versions").glob("step-3-*")) for root in (tmp_path / "runs", tmp_path / "alone"))
    verify(ours)
    assert (ours / "config.json").read_text() == (theirs / "config.json").read_text()
    _assert_near(load_file(ours / "model.safetensors"), load_file(theirs / "model.safetensors"))
    _assert_restored_alone(tmp_path, ranks)


def _assert_restored_alone(folder: Path, ranks: int) -> None:
    """One process reads what several have written, to the bit."""
    checkpoint = folder / "runs/r/checkpoints/step-2"
    assert len(list(checkpoint.glob("model*.safetensors"))) == ranks
    shutil.copytree(folder / "runs", folder / "copied")
    engine = stepping.engine(folder / "copied")
    assert stepping.open_run(engine, stepping.recipe()).durable_step == 2
    weights, expected = stepping.weights_of(engine), load_file(folder / "durable.safetensors")
    assert weights.keys() <= expected.keys()
    assert all(torch.equal(weights[name], expected[name]) for name in weights)


def _assert_near(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, one in ours.items():
        torch.testing.assert_close(one, theirs[name], rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("story", [rank_processes.killed, rank_processes.stalled])
def test_a_rank_that_is_gone_ends_the_training_with_a_reason(story, tmp_path: Path) -> None:
    found, codes = told(story, tmp_path, deadline_s=6.0)
    assert [code for code, _ in found["errors"]] == ["UNAVAILABLE"] * 2
    assert all("no longer in step" in text for _, text in found["errors"])
    assert codes == [0, -signal.SIGKILL]


@pytest.mark.slow
def test_a_follower_ends_when_rank_0_is_gone(tmp_path: Path) -> None:
    _, codes = told(rank_processes.leaving, tmp_path, deadline_s=6.0)
    assert codes == [-signal.SIGKILL, 1]


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("training.lora", {"training": {"lora": {"rank": 2}}}),
        ("training.precision", {"training": {"precision": "bf16"}}),
    ],
)
def test_what_is_trained_in_one_process_only_is_refused_by_name(field: str, changes: dict) -> None:
    config = validate(RunConfig, parse_yaml(stepping.recipe(**changes).config_json, "config"), "config")
    with pytest.raises(Unsupported) as refused:
        check_shardable(config)
    assert refused.value.field == f"config_json.{field}"
