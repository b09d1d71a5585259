"""`python trl_side.py IN.npz OUT.npz`, run in TRL's own environment: its generalised JSD and the gradient for each beta given."""

from __future__ import annotations

import sys

import numpy as np
import torch
from trl.experimental.gkd import GKDTrainer


def main(source: str, target: str) -> None:
    given = np.load(source)
    teacher = torch.from_numpy(given["teacher"])[None]
    found: dict[str, np.ndarray] = {}
    for beta in given["betas"].tolist():
        student = torch.from_numpy(given["student"])[None].clone().requires_grad_()
        loss = GKDTrainer.generalized_jsd_loss(student, teacher, beta=beta, reduction="sum")
        loss.backward()
        found[f"loss {beta}"] = loss.detach().numpy()
        found[f"gradient {beta}"] = student.grad[0].numpy()
    np.savez(target, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
