"""`python trl_side.py ADDRESS OUT.json`, run in TRL's own environment: its trainer's losses with a local teacher and with ours.

Both trainers see one batch of completions that the student drew. Behind ADDRESS stands the teacher whose folder is loaded here.
"""

# TRL lives in an environment of its own
# pyright: basic, reportMissingImports=false

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DistillationConfig, DistillationTrainer

from preceptor.client import TeacherClient
from preceptor.integrations.supports import divergence, student_support
from preceptor.integrations.trl import RemoteDistillationTrainer, RemoteTeacher

TINY = Path(__file__).parents[2] / "examples" / "tiny"
PROMPTS, WHOLE, NARROW = 4, 261, 8


def load(name: str) -> Any:
    return AutoModelForCausalLM.from_pretrained(TINY / name, dtype=torch.float32)


def far_student() -> Any:
    """The student with noise on its weights: the bundled one is so near its teacher that any two losses would agree."""
    model, random = load("student"), torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.05 * torch.randn(weight.shape, generator=random))
    return model


def trainer(kind: type[Any], beta: float, temperature: float, **teacher: Any) -> Any:
    lines = [json.loads(line) for line in (TINY / "data" / "distil.jsonl").read_text().splitlines()[:PROMPTS]]
    prompts = [[{"role": "user", "content": line["prompt"]}] for line in lines]
    settings = DistillationConfig(
        output_dir=tempfile.mkdtemp(),
        beta=beta,
        temperature=temperature,
        max_completion_length=12,
        per_device_train_batch_size=PROMPTS,
        gradient_accumulation_steps=1,
        max_steps=2,
        learning_rate=1e-4,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to=[],
        save_strategy="no",
        logging_steps=1,
        seed=1,
    )
    return kind(
        model=far_student(),
        args=settings,
        train_dataset=Dataset.from_dict({"prompt": prompts}),
        processing_class=AutoTokenizer.from_pretrained(TINY / "student", padding_side="left"),
        **teacher,
    )


def narrow_truth(local: Any, inputs: dict[str, Any], beta: float, temperature: float) -> float:
    """The divergence on the student's likeliest ids and the rest, from the whole distributions of both."""
    kept = inputs["completion_mask"].bool()
    tables = []
    for model in (local.model, local.teacher_model):
        ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], 1)
        mask = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], 1)
        with torch.no_grad():
            out = model(input_ids=ids, attention_mask=mask).logits[:, inputs["prompt_ids"].shape[1] - 1 : -1]
        tables.append(out[kept].double() / temperature)
    support = student_support(tables[0], NARROW, WHOLE)
    masses = []
    for table in tables:
        logprobs = table.log_softmax(-1)
        chosen = torch.zeros_like(logprobs, dtype=torch.bool).scatter_(1, support.ids_NK, value=True)
        rest = logprobs.masked_fill(chosen, -torch.inf).logsumexp(-1, keepdim=True)
        masses.append(torch.cat([logprobs.gather(1, support.ids_NK), rest], 1))
    return divergence(masses[0], masses[1], beta).mean().item()


def compared(client: TeacherClient, beta: float, temperature: float) -> dict[str, float]:
    local = trainer(DistillationTrainer, beta, temperature, teacher_model=load("teacher"))
    inputs = local._prepare_inputs(next(iter(local.get_train_dataloader())))
    found: dict[str, Any] = {"local": local.compute_loss(local.model, inputs)}
    for name, width in (("whole", WHOLE), ("narrow", NARROW)):
        remote = trainer(RemoteDistillationTrainer, beta, temperature, teacher=RemoteTeacher(client, "tiny", width))
        found[name] = remote.compute_loss(remote.model, inputs)
        if name == "whole":
            found["gradient"] = _gradient_difference(local, remote, found)
    found["narrow truth"] = narrow_truth(local, inputs, beta, temperature)
    entropies = [one._metrics["train" if one.model.training else "eval"]["entropy"][-1] for one in (local, remote)]
    return {name: float(value) for name, value in found.items()} | {"entropy": abs(entropies[0] - entropies[1])}


def _gradient_difference(local: Any, remote: Any, found: dict[str, Any]) -> float:
    """Of the two losses, over the size of the local one's."""
    for name in ("local", "whole"):
        found[name].backward()
    pairs = [
        (a.grad, b.grad) for a, b in zip(local.model.parameters(), remote.model.parameters(), strict=True) if a.grad is not None
    ]
    apart = sum(float((a - b).pow(2).sum()) for a, b in pairs) ** 0.5
    return apart / sum(float(a.pow(2).sum()) for a, _ in pairs) ** 0.5


def main(address: str, target: str) -> None:
    torch.set_num_threads(1)
    with TeacherClient(address) as client:
        cases = [
            {"beta": beta, "temperature": t, **compared(client, beta, t)} for beta, t in ((1.0, 1.0), (0.5, 1.0), (0.0, 0.7))
        ]
        trained = trainer(RemoteDistillationTrainer, 1.0, 1.0, teacher=RemoteTeacher(client, "tiny", NARROW))
        before = trained.model.lm_head.weight.detach().clone()
        trained.train()
        steps = [line["loss"] for line in trained.state.log_history if "loss" in line]
        moved = float((trained.model.lm_head.weight - before).abs().max())
    Path(target).write_text(json.dumps({"cases": cases, "steps": steps, "moved": moved}))


if __name__ == "__main__":
    main(*sys.argv[1:])
