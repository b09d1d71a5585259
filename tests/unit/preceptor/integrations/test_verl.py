"""The stand-in for verl's teacher manager: its constructor, its call and its tensors, as verl 0.9.1 uses them."""

from __future__ import annotations

import inspect
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from preceptor.errors import ConfigurationError, InvalidArgument, Unsupported
from preceptor.integrations.verl import PreceptorTeacherManager
from tests.unit.preceptor_teacher.compat.house import best, close, distribution
from tests.unit.preceptor_teacher.test_service import spec, teacher

IDS, K = [5, 9, 2, 33, 60], 4
# verl/experimental/teacher_loop/teacher_manager.py at 0.9.1
THEIR_CALL = ["self", "sequence_ids", "multi_modal_data", "mm_processor_kwargs", "mm_processor_output", "routing_key"]


def config(loss_mode: str = "forward_kl_topk", teachers: dict[str, str | None] | None = None) -> Any:
    """What the manager reads of verl's configuration, by verl's own names. Entries and their keys; verl ships `teacher_model`."""
    distillation = SimpleNamespace(
        distillation_loss=SimpleNamespace(loss_mode=loss_mode, topk=K),
        teacher_key="data_source",
        teacher_models={name: SimpleNamespace(key=key) for name, key in (teachers or {"teacher_model": None}).items()},
    )
    return SimpleNamespace(distillation=distillation)


@pytest.fixture
async def served(monkeypatch):
    async with teacher(spec("fake", ("teacher_model",)), spec("other", seed=7)) as house:
        monkeypatch.setenv("PRECEPTOR_TEACHER_ADDRESS", f"127.0.0.1:{house.grpc_port}")
        yield house


def test_it_is_called_as_verl_calls_its_own():
    assert list(inspect.signature(PreceptorTeacherManager.compute_teacher_logprobs_single).parameters) == THEIR_CALL
    assert list(inspect.signature(PreceptorTeacherManager).parameters) == ["config", "teacher_client"]


async def test_the_teachers_top_k_of_each_next_token_and_a_last_row_of_zeros(served):
    ids, logprobs = await PreceptorTeacherManager(config=config(), teacher_client={}).compute_teacher_logprobs_single(IDS)
    assert (ids.dtype, logprobs.dtype, ids.shape, logprobs.shape) == (torch.int32, torch.float32, (5, K), (5, K))
    for row in range(len(IDS) - 1):
        truth = distribution(IDS, row + 1)
        assert ids[row].tolist() == best(truth, K)
        assert all(close(value, truth[token]) for value, token in zip(logprobs[row].tolist(), ids[row].tolist(), strict=True))
    assert not ids[-1].any()
    assert not logprobs[-1].any()


async def test_losses_on_the_token_drawn_get_that_token(served):
    ids, logprobs = await PreceptorTeacherManager(config("k3")).compute_teacher_logprobs_single(IDS)
    assert ids[:, 0].tolist() == [*IDS[1:], 0]
    truth = np.array([distribution(IDS, at)[IDS[at]] for at in range(1, len(IDS))])
    np.testing.assert_allclose(logprobs[:-1, 0].numpy(), truth, atol=1e-5)


async def test_one_of_several_teachers_is_named_by_the_sample(served):
    several = {"teacher_model": None, "fake": "openai/gsm8k", "other": "hiyouga/geometry3k"}
    manager = PreceptorTeacherManager(config("k3", several))
    _, logprobs = await manager.compute_teacher_logprobs_single(IDS, routing_key="hiyouga/geometry3k")
    assert close(logprobs[0, 0].item(), distribution(IDS, 1, name="other")[IDS[1]])
    for wrong in (None, "other", "third"):
        with pytest.raises(InvalidArgument) as refused:
            await manager.compute_teacher_logprobs_single(IDS, routing_key=wrong)
        assert (refused.value.field, refused.value.limit) == ("data_source", "openai/gsm8k, hiyouga/geometry3k")
    for keys in ("same", "same"), ("one", None):
        with pytest.raises(ConfigurationError):
            PreceptorTeacherManager(config("k3", dict(zip(("fake", "other"), keys, strict=True))))


async def test_pictures_and_a_missing_address_are_refused_by_name(served, monkeypatch):
    with pytest.raises(Unsupported):
        await PreceptorTeacherManager(config()).compute_teacher_logprobs_single(IDS, multi_modal_data={"images": ["x"]})
    with pytest.raises(InvalidArgument) as refused:
        await PreceptorTeacherManager(config()).compute_teacher_logprobs_single([5, 99])
    assert refused.value.value == "99"
    monkeypatch.delenv("PRECEPTOR_TEACHER_ADDRESS")
    with pytest.raises(ConfigurationError) as unset:
        PreceptorTeacherManager(config())
    assert unset.value.field == "PRECEPTOR_TEACHER_ADDRESS"
