"""Other weights of a model on disk, as a run publishes them."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file


def other_weights(base: Path, folder: Path, seed: int, scale: float = 0.05) -> Path:
    """The same model with other weights: noise of this scale on every tensor."""
    shutil.copytree(base, folder)
    noise = torch.Generator().manual_seed(seed)
    for path in folder.glob("*.safetensors"):
        tensors = load_file(path)
        changed = {name: one + scale * torch.randn(one.shape, generator=noise).to(one.dtype) for name, one in tensors.items()}
        save_file(changed, path, metadata={"format": "pt"})
    return folder
