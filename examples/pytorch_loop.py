"""On-policy distillation as a plain PyTorch loop; the teacher is a service.

preceptor serve teacher --model tiny=examples/tiny/teacher       # in another shell
python examples/pytorch_loop.py examples/tiny/student 127.0.0.1:50051 tiny
"""

import json
import sys
from itertools import cycle, islice
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from preceptor.client import TeacherClient
from preceptor.integrations.supports import divergence, student_support, teacher_masses
from preceptor.types import Sequence

DATA = Path(__file__).parent / "tiny" / "data" / "distil.jsonl"
PROMPTS_PER_STEP, RESPONSE_TOKENS, WIDTH = 16, 40, 32


def main(student_folder: str, address: str, teacher: str, steps: int = 20) -> list[float]:
    tokenizer = AutoTokenizer.from_pretrained(student_folder, padding_side="left")
    student = AutoModelForCausalLM.from_pretrained(student_folder, dtype=torch.float32)
    optimizer = torch.optim.AdamW(student.parameters(), lr=3e-4, weight_decay=0.0)
    prompts = cycle(json.loads(line)["prompt"] for line in DATA.read_text().splitlines())
    losses: list[float] = []
    with TeacherClient(address) as client:
        usable_ids = client.describe(teacher)[0].tokenizer_size
        for step in range(steps):
            turns = [[{"role": "user", "content": prompt}] for prompt in islice(prompts, PROMPTS_PER_STEP)]
            inputs = tokenizer.apply_chat_template(
                turns, add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True
            )
            ids = student.generate(**inputs, do_sample=True, top_k=0, max_new_tokens=RESPONSE_TOKENS)  # pyright: ignore
            start = inputs["input_ids"].shape[1]
            ended = (ids[:, start:] == tokenizer.eos_token_id).cumsum(1)
            drawn = (ended == 0) | ((ended == 1) & (ids[:, start:] == tokenizer.eos_token_id))  # the end token is a token
            mask = torch.cat([inputs["attention_mask"], drawn], 1)
            logits = student(input_ids=ids, attention_mask=mask).logits[:, start - 1 : -1][drawn]

            support = student_support(logits, WIDTH, usable_ids)
            pairs = zip(ids, mask.bool(), drawn.sum(1).tolist(), strict=True)
            sequences = [Sequence.of(row[kept][:-length].numpy(), row[kept][-length:].numpy()) for row, kept, length in pairs]
            loss = divergence(support.student_NM, teacher_masses(client, teacher, sequences, support), beta=1).mean()

            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            print(f"step {step}: reverse KL {loss.item():.4f} nats a token")
    return losses


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3])
