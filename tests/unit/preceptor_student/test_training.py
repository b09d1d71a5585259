"""What is trained, in which numbers, and how sequences lie in a pass: adapters, bf16 beside f32 masters, packed rows."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM, PreTrainedModel

from preceptor import wire
from preceptor.errors import ConfigurationError, Conflict, WrongPair
from preceptor.recipes import Lora, Optimizer, RunConfig, Training, objective_from_json
from preceptor.types import ModelRef
from preceptor_proto.v1 import student_pb2
from preceptor_serving.models.adapters import merged, with_adapter
from preceptor_serving.models.load import load_causal_lm
from preceptor_serving.models.versions import VersionLoader
from preceptor_serving.weights import find_version
from preceptor_student.bases import Bases
from preceptor_student.batch import items_of
from preceptor_student.masters import Masters
from preceptor_student.optimizer import Updater
from preceptor_student.policy import Policy, check_packing
from preceptor_student.update import update
from tests.unit.preceptor_student import stepping
from tests.unit.preceptor_student.test_engine import made_batches, made_items, opened, same

BASE = stepping.TINY / "student"
LORA = {"lora": {"rank": 4, "alpha": 8.0}}
WAYS = {
    "f32": {},
    "bf16": {"precision": "bf16"},
    "lora": LORA,
    "lora-bf16": LORA | {"precision": "bf16"},
    "packed": {"layout": "packed"},
}


def way(name: str):
    return stepping.recipe(training=WAYS[name])


def trained(root: Path, compiled, steps: int = 3, run: str = "r"):
    student, epoch = opened(root, compiled)
    for step in range(1, steps + 1):
        stepping.take_step(student, compiled, made_batches(step), epoch, step, run)
    return student, epoch


@pytest.mark.parametrize("name", WAYS)
def test_every_way_of_training_resumes_to_the_bit(name, tmp_path):
    compiled = way(name)
    straight, _ = trained(tmp_path / "a", compiled)
    first, epoch = trained(tmp_path / "b", compiled, 2)
    first.checkpoint(student_pb2.CheckpointRequest(run="r", epoch=epoch))
    first.close()
    second, epoch = opened(tmp_path / "b", compiled)
    stepping.take_step(second, compiled, made_batches(3), epoch, 3)
    ours, theirs = (one._runs["r"].trainer for one in (straight, second))
    assert same(stepping.weights_of(straight), stepping.weights_of(second))
    assert same(ours.updater.state(), theirs.updater.state())
    assert same(dict(ours.model.named_parameters()), dict(theirs.model.named_parameters()))
    fresh, _ = opened(tmp_path / "c", compiled)
    assert not same(stepping.weights_of(fresh), stepping.weights_of(second))


def test_a_run_does_not_go_on_under_another_way_of_training(tmp_path):
    student, _ = trained(tmp_path, way("lora"), 1)
    with pytest.raises(Conflict, match="training"):
        stepping.open_run(student, way("f32"))


# ---------------------------------------------------------------- packed


class Kept(Updater):
    """An updater that keeps the step's gradient and moves nothing."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self.gradient: dict[str, torch.Tensor] = {}

    def clear(self) -> None:
        self.model.zero_grad(set_to_none=True)

    def rate_at(self, step: int) -> float:
        return 0.0

    def apply(self, step: int) -> float:
        self.gradient = {name: one.grad.clone() for name, one in self.model.named_parameters() if one.grad is not None}
        return 0.0


def no_head(sha256: bytes):
    raise AssertionError("no term reads hidden states")


def gradient_of(policy: Policy, items: list[student_pb2.TrainItem], size: int, *terms: dict) -> dict[str, torch.Tensor]:
    compiled, kept = stepping.recipe(*terms), Kept(policy.model)
    batches = [items_of(student_pb2.MicroBatch.FromString(raw), policy.head_rows, "items") for raw in stepping.cut(items, size)]
    for _ in update(policy, kept, objective_from_json(1, compiled.objective.to_json()), 1, batches, no_head):
        pass
    return kept.gradient


def float64_student() -> PreTrainedModel:
    return load_causal_lm(BASE, "f32", "cpu").double().requires_grad_()


@pytest.mark.parametrize("terms", [(stepping.REVERSE_KL,), (stepping.K1,)])
@pytest.mark.parametrize("size", [4, 9])
def test_packed_rows_give_the_gradient_of_padded_ones(size, terms):
    model, items = float64_student(), made_items(3, count=9, rows=14)
    padded, packed = (gradient_of(Policy(model, packed), items, size, *terms) for packed in (False, True))
    largest = max(float(one.abs().max()) for one in padded.values())
    assert padded.keys() == packed.keys()
    assert max(float((padded[name] - packed[name]).abs().max()) for name in padded) <= 1e-9 * largest


def test_packed_rows_hold_fewer_tokens(monkeypatch):
    model, items, seen = float64_student(), made_items(3, count=9, rows=14), []
    base: Any = model.base_model
    forward = base.forward
    monkeypatch.setattr(base, "forward", lambda **named: seen.append(named["input_ids"].numel()) or forward(**named))
    for packed in (False, True):
        gradient_of(Policy(model, packed), items, 9)
    assert seen[1] < seen[0]


@pytest.mark.parametrize(
    "config",
    [
        transformers.MambaConfig(vocab_size=64, hidden_size=16, num_hidden_layers=1, state_size=4, time_step_rank=4),
        transformers.BloomConfig(vocab_size=64, hidden_size=16, n_layer=1, n_head=2),
    ],
    ids=lambda config: config.model_type,
)
def test_a_model_that_cannot_keep_packed_sequences_apart_is_refused(config):
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    with pytest.raises(ConfigurationError, match="packed"):
        check_packing(Policy(model, packed=True))


def test_a_model_that_reads_its_neighbour_is_refused(monkeypatch):
    """Positions are taken, the mask is not: what the probe looks for beside the signature."""
    model = load_causal_lm(BASE, "f32", "cpu")
    check_packing(Policy(model, packed=True))
    inner = model.base_model
    forward = inner.forward

    def leaking(input_ids, position_ids, **named):
        mask = torch.ones_like(input_ids)
        return forward(input_ids=input_ids, position_ids=position_ids, attention_mask=mask, **named)

    monkeypatch.setattr(inner, "forward", leaking)
    with pytest.raises(ConfigurationError) as refused:
        check_packing(Policy(model, packed=True))
    assert "nats of the neighbour" in str(refused.value.value)


# ---------------------------------------------------------------- bf16


def test_gradients_of_narrow_weights_are_summed_in_f32():
    """Three gradients whose sum bf16 cannot hold: 256 + 1 + 1 is 256 there."""
    layer = torch.nn.Linear(1, 1, bias=False).to(torch.bfloat16)
    masters = Masters(layer)
    for amount in (256.0, 1.0, 1.0):
        layer(torch.tensor([[amount]], dtype=torch.bfloat16)).sum().backward()
    gathered = masters.named["weight"].grad
    assert gathered is not None
    assert gathered.item() == 258.0
    assert layer.weight.grad is None


def test_updates_too_small_for_bf16_are_not_lost():
    layer = torch.nn.Linear(1, 1, bias=False).to(torch.bfloat16)
    with torch.no_grad():
        layer.weight.fill_(1.0)
    masters = Masters(layer)
    updater = Updater(masters, Optimizer(learning_rate=1e-3, betas=(0.0, 0.0)))
    for step in range(1, 9):
        layer(torch.ones(1, 1, dtype=torch.bfloat16)).sum().backward()
        updater.apply(step)
        updater.clear()
    assert masters.named["weight"].item() == pytest.approx(1 - 8e-3, abs=1e-5)  # eight steps of less than half a bf16 unit
    assert layer.weight.item() == masters.named["weight"].bfloat16().item() < 1.0


def test_bf16_trains_close_to_f32_and_publishes_bf16(tmp_path):
    wide, _ = trained(tmp_path / "f32", way("f32"))
    narrow, epoch = trained(tmp_path / "bf16", way("bf16"))
    masters, weights = stepping.weights_of(narrow), stepping.weights_of(wide)
    start = dict(load_causal_lm(BASE, "f32", "cpu").named_parameters())
    moved = torch.cat([(weights[name] - start[name]).flatten() for name in start])
    moved_narrow = torch.cat([(masters[name] - start[name].bfloat16().float()).flatten() for name in start])
    assert torch.cosine_similarity(moved, moved_narrow, 0) > 0.9
    assert all(one.dtype == torch.float32 for one in masters.values())
    ref = wire.model_ref_from_proto(narrow.publish(student_pb2.PublishRequest(run="r", epoch=epoch)).model)
    loaded = AutoModelForCausalLM.from_pretrained(find_version([tmp_path / "bf16"], ref).folder)
    assert loaded.dtype == torch.bfloat16
    assert all(torch.equal(one, masters[name].bfloat16()) for name, one in loaded.named_parameters())


# ---------------------------------------------------------------- adapters


def test_an_adapters_gradient_is_the_chain_rule_on_the_whole_ones():
    """W + s B A: dB = s dW A^T and dA = s B^T dW, with dW from training every weight of the merged model."""
    lora, items = Lora(rank=3, alpha=6.0, target_modules=("q_proj", "down_proj")), made_items(5)
    base = load_causal_lm(BASE, "f32", "cpu")
    model = with_adapter(base, lora.rank, lora.alpha, lora.target_modules, seed=4).double()
    torch.manual_seed(1)
    parts = {name: one for name, one in model.named_parameters() if one.requires_grad}
    for one in parts.values():
        one.data.normal_(0, 0.1)
    whole, scale = float64_student(), lora.alpha / lora.rank
    factors = {name: (parts[name], parts[name.replace("lora_A", "lora_B")]) for name in parts if "lora_A" in name}
    for name, (a, b) in factors.items():
        dict(whole.named_parameters())[_weight_name(name)].data += scale * b.data @ a.data
    wanted, found = gradient_of(Policy(whole), items, 2), gradient_of(Policy(model), items, 2)
    assert found.keys() == parts.keys()
    for name, (a, b) in factors.items():
        above = wanted[_weight_name(name)]
        torch.testing.assert_close(found[name], scale * b.T @ above, rtol=1e-8, atol=1e-10)
        torch.testing.assert_close(found[name.replace("lora_A", "lora_B")], scale * above @ a.T, rtol=1e-8, atol=1e-10)


def _weight_name(name: str) -> str:
    return name.replace(".lora_A.default.weight", ".weight")


@pytest.mark.parametrize("precision", ["f32", "bf16"])
def test_runs_over_one_base_share_its_memory_and_do_not_disturb_each_other(precision, tmp_path):
    compiled = stepping.recipe(training=LORA | {"precision": precision})
    both = stepping.engine(tmp_path / "both")
    epochs = {run: stepping.open_run(both, compiled, run).epoch for run in ("r", "other")}
    one, two = (both._runs[run].trainer.model for run in ("r", "other"))
    frozen = {name: tensor.clone() for name, tensor in one.named_parameters() if not tensor.requires_grad}
    owned = {tensor.data_ptr() for tensor in one.parameters() if tensor.requires_grad}
    others = dict(two.named_parameters())
    for name, tensor in one.named_parameters():
        assert (tensor.data_ptr() == others[name].data_ptr()) is not tensor.requires_grad
        assert tensor.requires_grad or tensor.data_ptr() not in owned
    for step in (1, 2):
        for run, seed in (("r", step), ("other", 10 + step)):
            stepping.take_step(both, compiled, made_batches(seed), epochs[run], step, run)
    alone, _ = trained(tmp_path / "alone", compiled, 2)
    assert same(stepping.weights_of(alone), stepping.weights_of(both))
    assert not same(stepping.weights_of(both, "other"), stepping.weights_of(both))
    assert same(frozen, {name: tensor for name, tensor in one.named_parameters() if not tensor.requires_grad})


def test_only_the_adapter_is_kept_and_it_starts_from_the_runs_seed(tmp_path):
    student, epoch = trained(tmp_path, way("lora"), 1)
    student.checkpoint(student_pb2.CheckpointRequest(run="r", epoch=epoch))
    folder = tmp_path / "r" / "checkpoints" / "step-1"
    assert (folder / "model.safetensors").stat().st_size < (BASE / "model.safetensors").stat().st_size / 4
    assert all("lora_" in name for name in student._runs["r"].trainer.updater.state())
    bases, first = Bases(BASE), RunConfig(optimizer=Optimizer(learning_rate=0.0), training=Training(lora=Lora(rank=4)))
    again, other = (dict(bases.model_for(one).named_parameters()) for one in (first, first.model_copy(update={"seed": 1})))
    start = dict(bases.model_for(first).named_parameters())
    assert same(start, again)
    assert not same(start, other)


IDS = torch.arange(5, 35)[None]


@torch.no_grad()
def logits_of(model) -> torch.Tensor:
    return model(input_ids=IDS).logits


def published_adapter(tmp_path: Path) -> tuple[ModelRef, Path, torch.Tensor]:
    student, epoch = trained(tmp_path, way("lora"))
    reply = student.publish(student_pb2.PublishRequest(run="r", epoch=epoch))
    ref = wire.model_ref_from_proto(reply.model)
    assert wire.model_ref_from_proto(student.status("r").published) == ref
    student.close()
    assert wire.model_ref_from_proto(student.status("r").published) == ref
    again, _ = trained(tmp_path / "again", way("lora"))
    return ref, find_version([tmp_path], ref).folder, logits_of(again._runs["r"].trainer.model)


def test_a_published_adapter_is_a_version_of_its_own_that_peft_and_our_engines_load(tmp_path):
    ref, folder, wanted = published_adapter(tmp_path)
    assert ref.adapter is not None
    assert (ref.manifest_sha256, ref.adapter.name) == (Bases(BASE).sha256, "r")
    assert sorted(path.name for path in folder.iterdir()) == ["adapter_config.json", "adapter_model.safetensors", "manifest.json"]
    base = load_causal_lm(BASE, "f32", "cpu")
    assert not torch.equal(logits_of(base), wanted)
    assert torch.equal(logits_of(VersionLoader(BASE, "f32", "cpu").load(folder, ref)), wanted)
    torch.testing.assert_close(logits_of(merged(base, folder)), wanted, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(logits_of(peft.PeftModel.from_pretrained(base, folder)), wanted, rtol=1e-6, atol=1e-6)
    with pytest.raises(Conflict):
        find_version([tmp_path], replace(ref, adapter=replace(ref.adapter, manifest_sha256=bytes(32))))


def test_an_adapter_of_another_base_or_another_kind_is_refused(tmp_path):
    ref, folder, _ = published_adapter(tmp_path)
    with pytest.raises(WrongPair, match="another base"):
        VersionLoader(BASE, "f32", "cpu").load(folder, replace(ref, manifest_sha256=bytes(32)))
    config = folder / "adapter_config.json"
    config.write_text(config.read_text().replace('"use_dora": false', '"use_dora": true'))
    with pytest.raises(ConfigurationError, match="kind of adapter"):
        VersionLoader(BASE, "f32", "cpu").load(folder, ref)


def test_an_adapter_whose_layers_are_a_pattern_is_refused_for_that(tmp_path):
    ref, folder, _ = published_adapter(tmp_path)
    config = folder / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"target_modules": "all-linear"}))
    with pytest.raises(ConfigurationError) as refused:
        VersionLoader(BASE, "f32", "cpu").load(folder, ref)
    assert (refused.value.field, refused.value.value) == ("adapter_config.json.target_modules", "all-linear")


@pytest.mark.parametrize("layer", ["no_such_layer", "embed_tokens", "lm_head"])
def test_a_layer_that_takes_no_adapter_is_refused_by_name(layer, tmp_path):
    student = stepping.engine(tmp_path)
    with pytest.raises(ConfigurationError) as refused:
        stepping.open_run(student, stepping.recipe(training={"lora": {"target_modules": layer}}))
    assert refused.value.field == "training.lora.target_modules"
    assert stepping.open_run(student, way("f32")).epoch == 1
