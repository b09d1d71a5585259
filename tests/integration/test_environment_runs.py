"""A run whose rollouts have turns, with real parts: its loss is that of the student's own tokens, and of no other token."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from examples.tiny.decode import load_model
from preceptor.config.settings import ClientSettings
from preceptor.learner import Learner, RunFolder, RunPlan
from preceptor.learner.inline import in_this_process
from preceptor.learner.ports import Ports
from preceptor.recipes import compile_recipe, recipe_from
from preceptor.wire import sequence_from_proto
from preceptor_proto.v1 import student_pb2
from preceptor_rollout.environments import Answer
from preceptor_rollout.environments.calculator import Calculator

ROOT = Path(__file__).parents[2]
PAIR = ROOT / "examples" / "tiny"
VOCABULARY = 261
ENVIRON = {
    "PRECEPTOR_TEACHER_MODEL": f"tiny-teacher={PAIR / 'teacher'}",
    "PRECEPTOR_ROLLOUT_MODEL": f"tiny={PAIR / 'student'}",
    "PRECEPTOR_ROLLOUT_ENVIRONMENTS": json.dumps({"sums": {"kind": f"{__name__}:create"}}),
    "PRECEPTOR_STUDENT_MODEL": f"tiny={PAIR / 'student'}",
}
RECIPE: dict[str, Any] = {
    "version": 1,
    "name": "turns",
    "summary": "s",
    "data": {"path": str(PAIR / "data" / "distil.jsonl")},
    "sources": {
        "rollouts": {
            "samples_per_prompt": 3,
            "max_response_tokens": 30,
            "stop": ["="],
            "environment": {"name": "sums", "task_fields": ["answer"], "max_turns": 3, "max_observation_tokens": 12},
        }
    },
    "teachers": {"tutor": {"model": "tiny-teacher"}},
    "terms": [
        {
            "on": "rollouts",
            "teacher": "tutor",
            "signal": {"op": "support", "params": {"teacher_topk": VOCABULARY, "tail": False}},
            "objective": "reverse_kl",
        },
        {"on": "rollouts", "signal": "environment", "objective": "policy_gradient", "advantage": "group_relative"},
    ],
    "optimizer": {"learning_rate": 3e-4},
    "schedule": {"steps": 1, "prompts_per_step": 2, "deterministic": True},
}


class Counting(Calculator):
    """The calculator, and a reward for each call: rollouts of this student differ in it."""

    def step(self, state: str, reply: str) -> Answer:
        answer = super().step(state, reply)
        return Answer(answer.messages, len(reply) / 10)


def create(_options: object) -> Counting:
    return Counting()


class Recorded:
    """The student's port, which keeps what is sent."""

    def __init__(self, port: Any) -> None:
        self._port, self.items = port, cast(list[student_pb2.TrainItem], [])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._port, name)

    async def step(self, messages: Sequence[student_pb2.StepMessage], *, deadline_s: float) -> student_pb2.StepReply:
        self.items += [item for message in messages for item in message.micro_batch.items]
        return await self._port.step(messages, deadline_s=deadline_s)


async def run(root: Path) -> tuple[dict[str, Any], list[student_pb2.TrainItem]]:
    """The event of the step, and its batch."""
    plan = RunPlan.of("turns", "local", compile_recipe(recipe_from(RECIPE)))
    async with in_this_process(ClientSettings(), root, environ=ENVIRON) as ports:
        student = Recorded(ports.student)
        await Learner(
            plan, Ports(ports.rollout, cast(Any, student), ports.teacher, ports.queue), RunFolder.of(root, "turns")
        ).run()
    events = [json.loads(line) for line in (root / "turns" / "events.jsonl").read_text().splitlines()]
    return next(event for event in events if event["event"] == "step"), student.items


Mask = Callable[[list[bool]], list[bool]]


def loss_of(items: Sequence[student_pb2.TrainItem], student: Any, teacher: Any, mask: Mask) -> torch.Tensor:
    """The recipe's loss by plain arithmetic, over the tokens that `mask` makes of who drew which."""
    rewards = [next(scores.reward for scores in item.scores if scores.source == "environment") for item in items]
    total, rows = torch.zeros(()), 0
    for item, reward in zip(items, rewards, strict=True):
        group = [other for one, other in zip(items, rewards, strict=True) if one.id.prompt == item.id.prompt]
        segments = sequence_from_proto(item.sequence).segments
        ids = torch.tensor([token for segment in segments for token in segment.ids.tolist()])
        drawn = [segment.kind == "response" for segment in segments for _ in segment.ids]
        counted = torch.tensor(mask(drawn)[1:])
        own = student(input_ids=ids[None]).logits[0, :-1].log_softmax(-1)
        with torch.no_grad():
            theirs = teacher(input_ids=ids[None]).logits[0, :-1].log_softmax(-1)
        kl = (own.exp() * (own - theirs)).sum(-1)
        surprise = -own.gather(-1, ids[1:, None])[:, 0] * (reward - sum(group) / len(group))
        total = total + ((kl + surprise) * counted).sum()
        rows += int(counted.sum())
    return total / rows


MUTANTS: dict[str, Mask] = {
    "one too early": lambda drawn: [*drawn[1:], False],
    "one too late": lambda drawn: [False, *drawn[:-1]],
    "what was said, too": lambda drawn: [one or any(drawn[:place]) for place, one in enumerate(drawn)],
    "the first turn alone": lambda drawn: [
        one and all(drawn[drawn.index(True) : place]) for place, one in enumerate(drawn)
    ],
    "no first token of a turn": lambda drawn: [one and drawn[place - 1] for place, one in enumerate(drawn)],
}  # fmt: skip


def test_the_loss_is_that_of_the_students_own_tokens(tmp_path: Path) -> None:
    told, items = asyncio.run(run(tmp_path))
    assert len(items) == 6
    assert any(len(item.sequence.segments) >= 6 for item in items), "the student calls its tool, and goes on"
    student, teacher = cast(Any, load_model("student")), cast(Any, load_model("teacher"))
    loss = loss_of(items, student, teacher, lambda drawn: drawn)
    loss.backward()
    norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(one.grad) for one in student.parameters()]))
    assert told["loss"] == pytest.approx(loss.item(), abs=1e-5)
    assert told["grad_norm"] == pytest.approx(norm.item(), rel=1e-4)
    assert told["turns"] > 1.5
    with torch.no_grad():
        wrong = {name: loss_of(items, student, teacher, mask).item() for name, mask in MUTANTS.items()}
    assert min(abs(value - told["loss"]) for value in wrong.values()) > 1e-3, wrong
