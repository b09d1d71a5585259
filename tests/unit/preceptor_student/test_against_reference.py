"""The student engine against the single-process reference loop: same rollouts, same scores, same three steps."""

from __future__ import annotations

import pytest
import torch

from examples.tiny import task
from examples.tiny.decode import load_model
from examples.tiny.tokenizer import prompt_ids
from tests.reference import opd_loop
from tests.unit.preceptor_student import stepping

STEPS, PROMPTS = 3, 4
LIMIT = 1e-5


def batches():
    problems = task.load("distil")
    for step in range(STEPS):
        yield {i: prompt_ids(problems[i].prompt) for i in range(step * PROMPTS, (step + 1) * PROMPTS)}


@pytest.mark.parametrize("size", [3, 100])
@pytest.mark.parametrize(
    ("objective", "term"), [(opd_loop.reverse_kl_tail, stepping.REVERSE_KL), (opd_loop.k1_policy_gradient, stepping.K1)]
)
def test_three_steps_equal_the_reference(objective, term, size, tmp_path, monkeypatch):
    drawn: list[opd_loop.Rollouts] = []
    generate = opd_loop.generate
    monkeypatch.setattr(opd_loop, "generate", lambda *args: drawn.append(generate(*args)) or drawn[-1])
    rate = {"schedule": "linear", "start": 3e-4, "end": 0.0, "steps": 10}
    compiled = stepping.recipe(term, optimizer=stepping.OPTIMIZER | {"learning_rate": rate})
    settings = opd_loop.Settings(samples_per_prompt=2, decay_steps=10)
    reference, teacher = load_model("student"), load_model("teacher")
    student = stepping.engine(tmp_path)
    epoch = stepping.open_run(student, compiled).epoch
    for step, wanted in enumerate(opd_loop.distil(reference, teacher, batches(), objective, settings), 1):
        with torch.no_grad():
            scores = opd_loop.score(teacher, drawn[-1])
        parts = stepping.cut(stepping.items(drawn[-1], scores, step), size)
        reply = stepping.take_step(student, compiled, parts, epoch, step)
        assert reply.skipped_rows == 0
        assert reply.valid_rows == int(drawn[-1].valid_BR.sum())
        for name in ("loss", "grad_norm"):
            assert abs(reply.metrics[name] - wanted[name]) <= LIMIT * max(1.0, abs(wanted[name])), (step, name)
    ours = stepping.weights_of(student)
    worst = max(float((ours[name] - tensor.detach()).abs().max()) for name, tensor in reference.named_parameters())
    assert worst <= LIMIT
    moved = max(
        float((a - b.detach()).abs().max()) for a, b in zip(ours.values(), load_model("student").parameters(), strict=True)
    )
    assert moved > 50 * LIMIT
