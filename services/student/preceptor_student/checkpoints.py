"""Checkpoints: `step-N/` with model.safetensors, optimizer.safetensors, averages.safetensors where copies of the
student are running means, state.json, and a manifest over all of them. Where ranks share a model, each writes its parts
(`model-00000-of-00002.safetensors`); any number of ranks, or one process, reads them.

The folder is filled under a temporary name, synced and renamed; only then does head.json name it. Restoring gives
back every bit of weights and optimiser.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from preceptor.errors import NotFound
from preceptor_serving.durable import new_folder
from preceptor_serving.weights import verify, write_manifest
from preceptor_student.history import Applied, History
from preceptor_student.trainer import Trainer

STEP = re.compile(r"step-([0-9]+)")


def save(folder: Path, trainer: Trainer, history: History) -> bytes:
    """Writes one checkpoint; the digest of its manifest."""
    with new_folder(folder) as temporary:
        trainer.save(temporary)
        (temporary / "state.json").write_text(json.dumps({"applied": history.to_json()}))
        return write_manifest(temporary)


def restore(folder: Path, manifest_sha256: bytes | None, trainer: Trainer) -> tuple[History, bytes]:
    """Puts one checkpoint into the trainer; what had been applied, and the digest of its manifest."""
    if not folder.is_dir():
        there = ", ".join(str(step) for step in steps(folder.parent)) or "none"
        raise NotFound(f"there is no checkpoint {folder.name}", field="restore_step", value=folder.name, limit=there)
    version = verify(folder, manifest_sha256)
    trainer.load(folder)
    state = json.loads((folder / "state.json").read_bytes())
    return History(Applied.from_json(one) for one in state["applied"]), version.manifest_sha256


def steps(folder: Path) -> list[int]:
    """The steps that have a checkpoint, ascending."""
    return sorted(_steps(folder))


def prune(folder: Path, keep: int, current: int) -> None:
    """Removes all but the newest `keep`; never the current one."""
    for step in steps(folder)[:-keep]:
        if step != current:
            shutil.rmtree(folder / f"step-{step}")


def _steps(folder: Path) -> Iterator[int]:
    for path in folder.iterdir():
        if match := STEP.fullmatch(path.name):
            yield int(match[1])
