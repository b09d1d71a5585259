"""One student over several processes: the numbers of one, every bit after going back, and no wait without an end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import weakref
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.distributed import HashStore  # pyright: ignore[reportPrivateImportUsage] - public by its documentation

from preceptor.errors import Unsupported
from preceptor_proto.v1 import student_pb2
from preceptor_serving.models.load import load_causal_lm
from preceptor_serving.models.versions import VersionLoader
from preceptor_serving.weights import MANIFEST, find_version, verify
from preceptor_student.averages import AVERAGES
from preceptor_student.engine import StudentEngine, create
from preceptor_student.export import export
from preceptor_student.ranks.engine import LeadingEngine
from preceptor_student.ranks.group import Group
from preceptor_student.ranks.shards import decoder_layers, trained_kind
from preceptor_student.run_folder import read_head
from preceptor_student.trainer import MODEL, OPTIMIZER, joined
from tests.unit.preceptor_student import rank_processes, stepping
from tests.unit.preceptor_student.test_engine import same

BASE = stepping.TINY / "student"
END_S = 100.0  # a bound on a hang, on a busy machine


def told(
    story: rank_processes.Story,
    folder: Path,
    deadline_s: float = 60.0,
    ranks: int = 2,
    fault: rank_processes.Fault = rank_processes.no_fault,
) -> tuple[dict, list[int | None]]:
    """What rank 0 wrote down, and the exit codes; a rank that does not end is a failure."""
    store = rank_processes.meeting_point()
    processes = rank_processes.started(story, folder, store.port, deadline_s, ranks, fault)
    try:
        processes[0].join(END_S)
        if story is rank_processes.stalled:
            os.kill(processes[1].pid or 0, signal.SIGKILL)
        for process in processes[1:]:
            process.join(END_S)
        codes = [process.exitcode for process in processes]
        if not any(codes):  # what everybody heard is not kept for the whole run
            assert not any(store.check([f"commands/{number}"]) for number in range(4))
    finally:
        for process in processes:
            process.kill()
    path = folder / "told.json"
    return json.loads(path.read_text()) if path.exists() else {}, codes


def test_one_rank_alone_trains_a_packed_narrow_adapter_and_a_closed_model_is_freed(tmp_path: Path) -> None:
    compiled = rank_processes.recipe("lora-bf16-packed")
    ranked = LeadingEngine(stepping.options(tmp_path / "runs"), Group(HashStore(), 0, 1, 30.0))
    alone, found, model = stepping.engine(tmp_path / "alone"), [], None
    try:
        for engine in (ranked, alone):
            epoch = stepping.open_run(engine, compiled).epoch
            found.append(dict(stepping.take_step(engine, compiled, rank_processes.batches_of(1), epoch, 1).metrics))
        model = weakref.ref(ranked._runs["r"].trainer.model)
        stepping.open_run(ranked, compiled)
        assert model() is None
    finally:
        ranked.close()
    assert found[0] == pytest.approx(found[1], rel=1e-5, abs=1e-7)


def test_what_ranks_do_not_cut_is_refused_by_name() -> None:
    model = load_causal_lm(BASE, "f32", "cpu").requires_grad_(True)
    assert (trained_kind(model), len(decoder_layers(model))) == (torch.float32, model.config.num_hidden_layers)
    model.model.norm.bfloat16()
    with pytest.raises(Unsupported) as refused:
        trained_kind(model)
    assert (refused.value.field, refused.value.limit) == ("config_json.training.precision", "one dtype")
    model.model.layers = torch.nn.ModuleDict()
    with pytest.raises(Unsupported) as refused:
        decoder_layers(model)
    assert (refused.value.field, refused.value.limit) == ("model", "base_model.layers")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("way", "ranks"), [("f32", 1), ("f32", 2), ("f32", 3), ("bf16", 2), ("lora", 2), ("lora-bf16-packed", 2)]
)
def test_ranks_train_as_one_process_does(way: str, ranks: int, tmp_path: Path) -> None:
    """Losses, norms, every other metric, masters, moments, means and versions; bf16 gradients too are summed in f32."""
    found, codes = told(partial(rank_processes.training, way=way), tmp_path, ranks=ranks)
    assert codes == [0] * ranks
    assert found["local_share"] == pytest.approx(1 / ranks, abs=0.1)
    alone = _assert_metrics_alike(found, way, tmp_path)
    first, again, wanted = kept_in(tmp_path / "first"), kept_in(tmp_path / "again"), kept_by(alone, tmp_path / "wanted")
    assert same(first, again)
    _assert_near(first, wanted)
    versions = sorted((tmp_path / "runs/r").glob("**/step-3-epoch-*"))
    assert len(versions) == 2  # of the student and of the mean
    for ours in versions:
        (theirs,) = (tmp_path / "alone/r" / ours.parent.relative_to(tmp_path / "runs/r")).glob("step-3-*")
        _assert_versions_alike(ours, theirs)
    _assert_restored_alone(tmp_path, way, ranks)
    if way == "lora":
        _assert_adapters_load_alike(tmp_path)


def _assert_metrics_alike(found: dict, way: str, folder: Path) -> StudentEngine:
    """One process that has done the same."""
    compiled, alone = rank_processes.recipe(way), stepping.engine(folder / "alone")
    epoch = stepping.open_run(alone, compiled).epoch
    for step, metrics in enumerate(found["metrics"], start=1):
        expected = dict(stepping.take_step(alone, compiled, rank_processes.batches_of(step), epoch, step).metrics)
        assert metrics == pytest.approx(expected, rel=1e-5, abs=1e-7)
    objective = stepping.header(compiled, [], epoch, 4).objective
    request = student_pb2.EvaluateRequest(run="r", objective=objective)
    request.batch.ParseFromString(rank_processes.batches_of(1)[0])
    assert found["evaluated"] == pytest.approx(alone.evaluate(request).metrics["loss"], rel=1e-5)
    alone.publish(student_pb2.PublishRequest(run="r", epoch=epoch))
    return alone


def _assert_versions_alike(ours: Path, theirs: Path) -> None:
    verify(ours)
    assert {path.name for path in ours.iterdir()} == {path.name for path in theirs.iterdir()}
    for path in theirs.iterdir():
        if path.suffix == ".safetensors":
            _assert_near(load_file(ours / path.name), load_file(path))
        elif path.name != MANIFEST:
            assert (ours / path.name).read_bytes() == path.read_bytes()


def _assert_adapters_load_alike(folder: Path) -> None:
    """What a teacher scores with over its base, and the exported model, are those of one process."""
    ids, found = torch.arange(5, 35)[None], []
    for root in (folder / "runs", folder / "alone"):
        ref = read_head(root / "r").published_ref
        assert ref is not None
        export(root / "r", BASE, folder / f"exported-{root.name}")
        served = VersionLoader(BASE, "f32", "cpu").load(find_version([root], ref).folder, ref)
        exported = load_causal_lm(folder / f"exported-{root.name}", "f32", "cpu")
        found.append([model(input_ids=ids).logits for model in (served, exported)])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)
    assert not torch.equal(found[0][0], load_causal_lm(BASE, "f32", "cpu")(input_ids=ids).logits)


def _assert_restored_alone(folder: Path, way: str, ranks: int) -> None:
    """One process reads what several have written, to the bit."""
    checkpoint = folder / "runs/r/checkpoints/step-2"
    assert len(list(checkpoint.glob("model*.safetensors"))) == ranks
    shutil.copytree(folder / "runs", folder / "copied")
    engine = stepping.engine(folder / "copied")
    assert stepping.open_run(engine, rank_processes.recipe(way)).durable_step == 2
    assert same(kept_by(engine, folder / "read"), kept_in(checkpoint))


@pytest.mark.slow
def test_losses_that_look_further_than_at_a_row_are_those_of_one_process(tmp_path: Path) -> None:
    found, codes = told(rank_processes.looking_further, tmp_path)
    assert codes == [0, 0]
    wanted = rank_processes.looking_further(create(rank_processes.options(tmp_path / "alone")), tmp_path)
    assert len(found["metrics"]) == 6
    for ours, theirs in zip(found["metrics"], wanted["metrics"], strict=True):
        assert theirs["loss"] != 0
        assert ours == pytest.approx(theirs, rel=1e-5, abs=1e-7)
    assert found["refused"] == wanted["refused"]
    assert found["refused"][0] == "INVALID_ARGUMENT"
    assert found["taken"][0] == "OK"


@pytest.mark.slow
def test_three_ranks_go_on_from_what_two_have_written(tmp_path: Path) -> None:
    story = partial(rank_processes.durable, way="lora")
    assert told(story, tmp_path) == ({"found_step": 0}, [0] * 2)
    assert told(story, tmp_path, ranks=3) == ({"found_step": 1}, [0] * 3)
    checkpoints = tmp_path / "runs/r/checkpoints"
    for name, ranks in (("step-1", 2), ("step-2", 3)):
        assert len(list((checkpoints / name).glob(f"optimizer-*-of-{ranks:05}.safetensors"))) == ranks
    assert same(kept_in(tmp_path / "read"), kept_in(checkpoints / "step-1"))


@pytest.mark.slow
def test_runs_over_one_base_share_its_parts_and_do_not_disturb_each_other(tmp_path: Path) -> None:
    found, codes = told(rank_processes.several_runs, tmp_path)
    assert codes == [0, 0]
    assert found["shared"] == found["frozen"] > 0
    alone, compiled = stepping.engine(tmp_path / "alone"), rank_processes.recipe("lora")
    epoch = stepping.open_run(alone, compiled).epoch
    for step in (1, 2):
        stepping.take_step(alone, compiled, rank_processes.batches_of(step), epoch, step)
    _assert_near(kept_in(tmp_path / "first"), kept_by(alone, tmp_path / "wanted"))


def kept_in(folder: Path) -> dict[str, torch.Tensor]:
    """Everything that a trainer has written, by however many ranks."""
    parts = {name: joined(folder, name) for name in (MODEL, OPTIMIZER, AVERAGES)}
    assert all(parts.values())
    return {f"{name}/{key}": tensor for name, part in parts.items() for key, tensor in part.items()}


def kept_by(engine: StudentEngine, folder: Path) -> dict[str, torch.Tensor]:
    folder.mkdir()
    engine._runs["r"].trainer.save(folder)
    return kept_in(folder)


def _assert_near(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    """A bf16 version may have a number that was rounded the other way."""
    assert ours.keys() == theirs.keys()
    for name, one in ours.items():
        torch.testing.assert_close(one, theirs[name], rtol=0 if one.dtype == torch.float32 else 2**-7, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("story", "way"), [(rank_processes.killed, "lora"), (rank_processes.stalled, "bf16")])
def test_a_rank_that_is_gone_in_mid_step_ends_the_training_with_a_reason(story, way: str, tmp_path: Path) -> None:
    found, codes = told(story, tmp_path, deadline_s=20.0 if story is rank_processes.stalled else 60.0)
    assert [code for code, _ in found["errors"]] == ["UNAVAILABLE"] * 2
    assert all("no longer in step" in text for _, text in found["errors"])
    assert codes == [0, -signal.SIGKILL]
    assert told(partial(rank_processes.durable, way=way), tmp_path) == ({"found_step": 1}, [0, 0])
    assert same(kept_in(tmp_path / "read"), kept_in(tmp_path / "runs/r/checkpoints/step-1"))


@pytest.mark.slow
@pytest.mark.parametrize("who", [0, 1])
def test_a_rank_without_memory_ends_all_with_its_error(who: int, tmp_path: Path) -> None:
    found, codes = told(rank_processes.failing, tmp_path, fault=partial(rank_processes.starving, who=who))
    (first, why), (second, _) = found["answers"]
    assert (first, second) == ("TOO_LARGE", "UNAVAILABLE")
    assert why.startswith("rank 1: ") is (who == 1)
    assert "more memory than cpu has" in why
    assert (tmp_path / "error-1").read_text().startswith("TOO_LARGE rank 0: " if who == 0 else "TOO_LARGE a micro-batch")
    assert codes == [0, 1]


@pytest.mark.slow
def test_a_rank_without_room_for_its_part_of_a_checkpoint_is_told_and_asked_again(tmp_path: Path) -> None:
    found, codes = told(rank_processes.crowded, tmp_path, fault=partial(rank_processes.filling_up, who=1))
    (refused, why, nothing), again = found["answers"]
    assert (refused, nothing) == ("RESOURCE_EXHAUSTED", [])
    assert why.startswith("rank 1: ")
    assert again == ["OK", 1, ["step-1"]]
    assert codes == [0, 0]


@pytest.mark.slow
def test_a_loss_of_one_rank_that_is_no_number_is_refused_by_all_and_moves_nothing(tmp_path: Path) -> None:
    found, codes = told(rank_processes.failing, tmp_path, fault=partial(rank_processes.losing_count, who=1))
    (refused, why), (taken, metrics) = found["answers"]
    assert (refused, taken) == ("INVALID_ARGUMENT", "OK")
    assert "not finite" in why
    assert codes == [0, 0]
    alone = stepping.engine(tmp_path / "alone")
    epoch = stepping.open_run(alone, rank_processes.recipe("f32")).epoch
    expected = stepping.take_step(alone, rank_processes.recipe("f32"), rank_processes.batches_of(1), epoch, 1).metrics
    assert metrics == pytest.approx(dict(expected), rel=1e-5, abs=1e-7)


@pytest.mark.slow
def test_a_follower_ends_when_rank_0_is_gone(tmp_path: Path) -> None:
    _, codes = told(rank_processes.leaving, tmp_path, deadline_s=6.0)
    assert codes == [-signal.SIGKILL, 1]
