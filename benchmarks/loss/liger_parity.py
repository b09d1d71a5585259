"""Our divergence of two heads against Liger's fused linear JSD, which runs in an environment of its own: `.venv-liger`.

Both take hidden states and heads and give one loss with its gradients; logits exist a few rows at a time on either side.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import numpy as np
import torch

from benchmarks.loss.cases import divergence_of
from benchmarks.loss.environments import interpreter_of
from benchmarks.loss.trl_parity import OURS
from preceptor_serving.models.vocabulary_head import Head as TeacherHead
from preceptor_student.full import Behind, HiddenStates, Whole
from preceptor_student.head import Head

PINNED = ("liger-kernel==0.8.5", "torch==2.13.0", "triton==3.9.0", "numpy==2.4.6", "packaging==26.3")
HOME = Path(".venv-liger")
ROWS, VOCABULARY, WIDTH, TEACHER_WIDTH = 64, 300, 16, 12
TEMPERATURE = 1.7
WAYS = ("chunked", "triton")

Numbers = dict[str, np.ndarray]


def worst_difference() -> dict[str, float]:
    """ "WAY beta" -> the largest difference in the mean loss or an entry of its gradients by states and head."""
    given = _inputs()
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "in.npz"), Path(folder, "out.npz")
        np.savez(source, allow_pickle=False, temperature=TEMPERATURE, betas=np.array(list(OURS)), **given)
        side = Path(__file__).with_name("liger_side.py")
        subprocess.run([str(interpreter_of(HOME, PINNED)), str(side), str(source), str(target)], check=True)
        theirs = dict(np.load(target))
    found: dict[str, float] = {}
    for beta in OURS:
        ours = _ours(beta, given)
        for way in WAYS:
            found[f"{way} {beta}"] = max(float(np.abs(one - theirs[f"{way} {beta} {name}"]).max()) for name, one in ours.items())
    return found


def _inputs() -> Numbers:
    rng = np.random.default_rng(0)
    shapes = {
        "states": (ROWS, WIDTH),
        "weight": (VOCABULARY, WIDTH),
        "teacher_states": (ROWS, TEACHER_WIDTH),
        "teacher_weight": (VOCABULARY, TEACHER_WIDTH),
    }
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def _ours(beta: float, given: Numbers) -> Numbers:
    summand, params = OURS[beta]
    states, weight = (torch.from_numpy(given[name]).clone().requires_grad_() for name in ("states", "weight"))
    head = TeacherHead(torch.from_numpy(given["teacher_weight"]), VOCABULARY)
    teacher = HiddenStates(torch.from_numpy(given["teacher_states"]), [Behind(slice(0, ROWS), head)], TEMPERATURE)
    targets = torch.zeros(ROWS, dtype=torch.int64)
    student = Head(weight, temperature=TEMPERATURE)
    loss = divergence_of(states, student, Whole(teacher, summand, params), targets, chunk_rows=16).mean()
    loss.backward()
    assert states.grad is not None
    assert weight.grad is not None
    return {"loss": loss.detach().numpy(), "states": states.grad.numpy(), "weight": weight.grad.numpy()}
