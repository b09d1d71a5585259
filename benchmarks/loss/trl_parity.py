"""Our divergences against TRL's, which runs in an environment of its own: `.venv-trl`, made once and pinned."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import numpy as np
import torch

from benchmarks.loss.cases import divergence_of
from benchmarks.loss.environments import interpreter_of
from preceptor.recipes.ops.divergence import DivergenceParams
from preceptor.recipes.ops.jsd import JsdParams
from preceptor_student.full import Whole, WholeRows
from preceptor_student.head import Head
from preceptor_student.objectives import forward_kl, jsd, reverse_kl
from preceptor_student.objectives.divergence import Summand

PINNED = ("trl==1.16.0", "torch==2.13.0", "transformers==5.23.0", "datasets==5.2.0")
HOME = Path(".venv-trl")
ROWS, VOCABULARY = 64, 512
OURS: dict[float, tuple[Summand, DivergenceParams]] = {
    0.0: (forward_kl.summand, DivergenceParams()),
    0.3: (jsd.summand, JsdParams(beta=0.3)),
    0.5: (jsd.summand, JsdParams(beta=0.5)),
    1.0: (reverse_kl.summand, reverse_kl.EXACT),
}


def environment() -> Path:
    """The interpreter of TRL's environment; raises `CalledProcessError` where it cannot be installed."""
    return interpreter_of(HOME, PINNED)


def worst_difference() -> dict[float, float]:
    """beta -> the largest difference in the loss of a row or an entry of its gradient."""
    rng = np.random.default_rng(0)
    student, teacher = (rng.normal(scale=4, size=(ROWS, VOCABULARY)).astype(np.float32) for _ in range(2))
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "in.npz"), Path(folder, "out.npz")
        np.savez(source, student=student, teacher=teacher, betas=np.array(list(OURS)))
        side = Path(__file__).with_name("trl_side.py")
        subprocess.run([str(environment()), str(side), str(source), str(target)], check=True)
        theirs = dict(np.load(target))
    return {beta: _difference(beta, student, teacher, theirs) for beta in OURS}


def _difference(beta: float, student: np.ndarray, teacher: np.ndarray, theirs: dict[str, np.ndarray]) -> float:
    summand, params = OURS[beta]
    logits = torch.from_numpy(student).clone().requires_grad_()
    scores = WholeRows(torch.from_numpy(teacher).log_softmax(-1))
    targets = torch.zeros(len(logits), dtype=torch.int64)
    loss_n = divergence_of(logits, Head(torch.eye(VOCABULARY)), Whole(scores, summand, params), targets, chunk_rows=16)
    loss_n.sum().backward()
    assert logits.grad is not None
    of_gradient = np.abs(logits.grad.numpy() - theirs[f"gradient {beta}"]).max()
    return float(max(of_gradient, abs(loss_n.sum().item() - float(theirs[f"loss {beta}"])) / ROWS))
