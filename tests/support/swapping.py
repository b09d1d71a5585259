"""Callers that go on asking for rollouts while weights are swapped under them, and a recomputation of every token they got."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from examples.tiny.decode import MODEL_DIRS
from preceptor.client import AsyncRolloutClient
from preceptor.types import ModelRef, Rollout
from preceptor_serving.weights import version_name, versions_folder, write_manifest
from tests.unit.preceptor_rollout.drawing import tiny_prompts
from tests.unit.preceptor_rollout.serving import RUN, options, prompts_of

STEPS, CALLERS, TEMPERATURE = (4, 5, 6, 7), 3, 0.8
LONGER_THAN_A_SWAP = {"max_new_tokens": 120, "ignore_eos": True}


def publish(root: Path, step: int) -> ModelRef:
    """A version whose weights are the student's, each off by a twentieth or so; no two steps agree."""
    ref = ModelRef("tiny", RUN, 1, step)
    folder = versions_folder(root, RUN) / version_name(ref)
    shutil.copytree(MODEL_DIRS["student"], folder)
    weights, noise = load_file(folder / "model.safetensors"), torch.Generator().manual_seed(step)
    moved = {name: one * (1 + 0.05 * torch.randn(one.shape, generator=noise)) for name, one in weights.items()}
    save_file(moved, folder / "model.safetensors", {"format": "pt"})
    return replace(ref, manifest_sha256=write_manifest(folder))


@dataclass
class Load:
    """Callers that ask for rollouts until they are told to stop, and what they got."""

    client: AsyncRolloutClient
    drawn: list[Rollout] = field(default_factory=list[Rollout])
    newest_step: int = 0  # of the swap that was answered last
    outlived: int = 0  # rollouts that ended under weights which had been replaced by then
    stopped: bool = False
    moved: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def call(self, caller: int) -> None:
        for attempt in count():
            if self.stopped:
                return
            prompts = [replace(prompt, attempt=attempt) for prompt in prompts_of(2)]
            wanted = options(run=RUN, job=f"job{caller}", seed=caller, temperature=TEMPERATURE, **LONGER_THAN_A_SWAP)
            async for outcome in self.client.generate(prompts, wanted):
                assert isinstance(outcome, Rollout), outcome
                await self._take(outcome)

    async def _take(self, rollout: Rollout) -> None:
        async with self.moved:
            self.drawn.append(rollout)
            self.outlived += rollout.model.step < self.newest_step
            self.moved.notify_all()

    async def drawn_by(self, step: int) -> None:
        """Returns when the weights of this step have drawn something."""
        async with self.moved:
            await self.moved.wait_for(lambda: any(one.model.step == step for one in self.drawn))

    async def swap(self, ref: ModelRef) -> None:
        """As soon as the weights before have drawn something."""
        await self.drawn_by(self.newest_step)
        await self.client.load_weights(ref)
        self.newest_step = ref.step


async def swapped_under_load(client: AsyncRolloutClient, refs: Sequence[ModelRef]) -> Load:
    """What the callers got while each of these versions drew in turn."""
    first, *others = refs
    await client.load_weights(first)
    load = Load(client, newest_step=first.step)
    async with asyncio.TaskGroup() as group:
        for caller in range(CALLERS):
            group.create_task(load.call(caller))
        for ref in others:
            await load.swap(ref)
        await load.drawn_by(refs[-1].step)
        load.stopped = True
    return load


def assert_recomputed(root: Path, drawn: Iterable[Rollout]) -> None:
    prompts = tiny_prompts(2)
    models = {step: read(root, step) for step in STEPS}
    for rollout in drawn:
        steps = {*np.asarray(rollout.behaviour.versions).tolist()}
        assert steps == {rollout.model.step}
        response = rollout.sequence.response_ids.astype(np.int64).tolist()
        expected = log_probs(models[rollout.model.step], prompts[rollout.id.prompt], response)
        for column in (rollout.behaviour.logprob_policy, rollout.behaviour.logprob_behaviour):
            assert np.abs(column - expected).max() <= 1e-4
    one = next(iter(drawn))
    others = [log_probs(models[step], prompts[one.id.prompt], one.sequence.response_ids.tolist()) for step in STEPS]
    assert np.ptp(others, axis=0).max() > 1e-2, "versions can be told apart"


def read(root: Path, step: int) -> torch.nn.Module:
    folder = versions_folder(root, RUN) / version_name(ModelRef("tiny", RUN, 1, step))
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True).eval()


@torch.inference_mode()
def log_probs(model: torch.nn.Module, context: list[int], response: list[int]) -> np.ndarray:
    """Of the drawn tokens, at the temperature that they were drawn at."""
    ids = torch.tensor([[*context, *response]])
    logits = model(input_ids=ids).logits[0, len(context) - 1 : -1] / TEMPERATURE
    return logits.log_softmax(-1).gather(1, torch.tensor(response)[:, None])[:, 0].numpy()
