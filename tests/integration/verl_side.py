"""`python verl_side.py ADDRESS OUT.json`, run in verl's own environment: its worker's call and its losses, with our teacher.

Beside it verl's own manager runs over a stand-in of its inference server, which tells what the whole model says, in the lists
that verl's servers make. Behind ADDRESS stands the same model.
"""

# verl lives in an environment of its own
# pyright: basic, reportMissingImports=false

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import verl
from omegaconf import DictConfig, OmegaConf
from transformers import AutoModelForCausalLM
from verl.experimental.agent_loop.agent_loop import AgentLoopWorker
from verl.experimental.teacher_loop import teacher_manager
from verl.trainer.distillation.fsdp.losses import compute_forward_kl_topk
from verl.utils.config import omega_conf_to_dataclass
from verl.utils.import_utils import import_external_libs

TINY = Path(__file__).parents[2] / "examples" / "tiny"
PLUGIN = "preceptor.integrations.verl_plugin"
PROMPT, RESPONSE, K = [1, 40, 61, 12, 3], [17, 4, 90, 33, 120, 8, 2], 8
SAMPLE = {"data_source": np.array("openai/gsm8k", dtype=object)}
SEVERAL = {"first": "openai/gsm8k", "second": "hiyouga/geometry3k"}
THEIRS = teacher_manager.AsyncTeacherLLMServerManager


def config(loss_mode: str, entries: dict[str, str]) -> DictConfig:
    """verl's own distillation.yaml, with a loss and, beside the entry that it ships, others."""
    shipped: Any = OmegaConf.load(Path(str(verl.__file__)).parent / "trainer" / "config" / "distillation" / "distillation.yaml")
    del shipped["defaults"]
    shipped.merge_with({"enabled": True, "n_gpus_per_node": 0, "distillation_loss": {"loss_mode": loss_mode, "topk": K}})
    shipped.teacher_models.teacher_model.model_path = str(TINY / "teacher")
    for name, key in entries.items():
        shipped.teacher_models[name] = {**shipped.teacher_models.teacher_model, "key": key}
    rollout = {"name": "vllm", "dtype": "float32", "prompt_length": 16, "response_length": 16, "temperature": 1.0}
    return OmegaConf.create({"distillation": shipped, "actor_rollout_ref": {"rollout": rollout}})


class Server:
    """What verl's client of an inference server is asked, answered by the whole model."""

    def __init__(self) -> None:
        self._model: Any = AutoModelForCausalLM.from_pretrained(TINY / "teacher", dtype=torch.float64)

    @torch.inference_mode()
    async def generate(self, *, prompt_ids: list[int], sampling_params: dict[str, Any], **_: Any) -> SimpleNamespace:
        logprobs = self._model(torch.tensor([prompt_ids])).logits[0, :-1].log_softmax(-1)
        if k := sampling_params["prompt_logprobs"]:
            values, ids = logprobs.topk(k)
        else:
            ids = torch.tensor(prompt_ids[1:])[:, None]
            values = logprobs.gather(1, ids)
        width = ids.shape[1]
        told = {"prompt_ids": [*ids.tolist(), [0] * width], "prompt_logprobs": [*values.tolist(), [0.0] * width]}
        return SimpleNamespace(extra_fields=told)


async def asked(manager: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """As verl's worker asks for a sample, routing key included."""
    worker: Any = SimpleNamespace(distillation_enabled=True, teacher_key="data_source", teacher_server_manager=manager)
    output: Any = SimpleNamespace(multi_modal_data={}, mm_processor_kwargs=None, mm_processor_output=None, extra_fields={})
    await AgentLoopWorker._compute_teacher_logprobs(worker, output, PROMPT, RESPONSE, validate=False, sample_kwargs=SAMPLE)
    return output.extra_fields["teacher_ids"], output.extra_fields["teacher_logprobs"]


@torch.inference_mode()
def loss_of(ids: torch.Tensor, logprobs: torch.Tensor, distillation: Any) -> list[float]:
    """verl's loss of each row but the last, which is about nothing."""
    student: Any = AutoModelForCausalLM.from_pretrained(TINY / "student", dtype=torch.float32)
    logits = student(torch.tensor([PROMPT + RESPONSE])).logits
    nested = [torch.nested.nested_tensor([one], layout=torch.jagged) for one in (logprobs.float(), ids.long())]
    told = compute_forward_kl_topk(logits, *nested, distillation, data_format="thd")
    return told["distillation_losses"][0, :-1].tolist()


async def compared(loss_mode: str, entries: dict[str, str], server: Server) -> dict[str, Any]:
    """Both managers on one sample, under one configuration."""
    settings = config(loss_mode, entries)
    distillation: Any = omega_conf_to_dataclass(settings.distillation)
    theirs = await asked(THEIRS(settings, dict.fromkeys(distillation.teacher_models, server)))
    ours = await asked(teacher_manager.AsyncTeacherLLMServerManager(config=settings, teacher_client={}))
    found = {
        "loss_mode": loss_mode,
        "entries": sorted(entries),
        "ids": bool((ours[0] == theirs[0]).all()),
        "shapes": [list(ours[1].shape), list(theirs[1].shape)],
        "types": [str(ours[0].dtype), str(theirs[0].dtype), str(ours[1].dtype), str(theirs[1].dtype)],
        "apart": (ours[1] - theirs[1]).abs().max().item(),
    }
    if loss_mode == "forward_kl_topk":
        found["losses"] = [loss_of(*one, distillation) for one in (ours, theirs)]
    return found


async def main(address: str) -> list[dict[str, Any]]:
    os.environ["PRECEPTOR_TEACHER_ADDRESS"] = address
    import_external_libs(PLUGIN)
    assert teacher_manager.AsyncTeacherLLMServerManager is not THEIRS
    server = Server()
    cases = [(mode, entries) for mode in ("forward_kl_topk", "k3") for entries in ({}, SEVERAL)]
    return [await compared(mode, entries, server) for mode, entries in cases]


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps(asyncio.run(main(sys.argv[1]))))
