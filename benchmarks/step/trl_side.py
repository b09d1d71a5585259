"""`python trl_side.py JOB.json OUT.json`, run in TRL's own environment: seconds of each step of its DistillationTrainer.

Lengths are forced where tokens are drawn: the end has probability zero before a rollout's length and one at it. Nothing else of
TRL is touched.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset  # pyright: ignore[reportMissingImports]  # TRL's environment has it
from transformers import AutoModelForCausalLM, AutoTokenizer, LogitsProcessor, TrainerCallback
from trl import DistillationConfig, DistillationTrainer  # pyright: ignore[reportMissingImports]


class Ends(LogitsProcessor):
    """Ends each row at its length."""

    def __init__(self, lengths: list[int], end: int) -> None:
        self.lengths_b, self.end, self.drawn = torch.tensor(lengths), end, 0

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        self.drawn += 1
        scores[:, self.end] = -torch.inf
        scores[self.lengths_b == self.drawn, self.end] = 1e4
        return scores


class Clock(TrainerCallback):
    """When each step began and ended."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.began = 0.0

    def on_step_begin(self, *_args: object, **_named: object) -> None:
        self.began = self.began or time.perf_counter()  # the first; later steps begin where the one before ended

    def on_step_end(self, *_args: object, **_named: object) -> None:
        now = time.perf_counter()
        self.seconds.append(now - self.began)
        self.began = now


def main(job: str, out: str) -> None:
    told = json.loads(Path(job).read_text())
    torch.set_num_threads(told["threads"])
    model: Any
    model, teacher = (AutoModelForCausalLM.from_pretrained(told[name], dtype=torch.float32) for name in ("student", "teacher"))
    tokens = iter(told["lengths"])
    generate, drawn, read = model.generate, [], []

    def scripted(*args: Any, **named: Any) -> torch.Tensor:
        lengths = next(tokens)
        drawn.append(sum(lengths))
        read.append(int(named["attention_mask"].sum()))
        return generate(*args, logits_processor=[Ends(lengths, model.generation_config.eos_token_id)], **named)

    model.generate = scripted
    lines = [json.loads(line)["prompt"] for line in Path(told["prompts"]).read_text().splitlines()]
    data = Dataset.from_list([{"prompt": [{"role": "user", "content": line}]} for line in lines])
    accumulate = told["accumulate"]
    args = DistillationConfig(
        output_dir=str(Path(out).parent / "trl"),
        per_device_train_batch_size=len(told["lengths"][0]) // accumulate,
        gradient_accumulation_steps=accumulate,
        max_steps=len(told["lengths"]),
        max_completion_length=told["longest"],
        learning_rate=told["learning_rate"],
        lr_scheduler_type="constant",
        beta=1.0,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        shuffle_dataset=False,
        report_to=[],
        save_strategy="no",
        logging_steps=1000,
        disable_tqdm=True,
    )
    clock = Clock()
    trainer = DistillationTrainer(
        model=model, teacher_model=teacher, args=args, train_dataset=data, callbacks=[clock],
        processing_class=AutoTokenizer.from_pretrained(told["student"]),
    )  # fmt: skip
    trainer.train()
    Path(out).write_text(json.dumps({"seconds": clock.seconds, "tokens": drawn, "prompt_tokens": read}))


if __name__ == "__main__":
    main(*sys.argv[1:])
