"""Checkpoints: `step-N/` with model.safetensors, optimizer.safetensors, averages.safetensors where copies of the
student are running means, state.json, and a manifest over all of them.

The folder is filled under a temporary name, synced and renamed; only then does head.json name it. Restoring gives
back every bit of weights and optimiser.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from safetensors.torch import load_file, save_file

from preceptor.errors import NotFound
from preceptor_serving.durable import new_folder
from preceptor_serving.weights import verify, write_manifest
from preceptor_student.averages import FILE as AVERAGES
from preceptor_student.history import Applied, History
from preceptor_student.trainer import Trainer

STEP = re.compile(r"step-([0-9]+)")


def save(folder: Path, trainer: Trainer, history: History) -> bytes:
    """Writes one checkpoint; the digest of its manifest."""
    with new_folder(folder) as temporary:
        save_file(trainer.weights(), temporary / "model.safetensors")
        save_file(trainer.updater.state(), temporary / "optimizer.safetensors")
        if averages := trainer.averages.state():
            save_file(averages, temporary / AVERAGES)
        (temporary / "state.json").write_text(json.dumps({"applied": history.to_json()}))
        return write_manifest(temporary)


def restore(folder: Path, manifest_sha256: bytes | None, trainer: Trainer) -> tuple[History, bytes]:
    """Puts one checkpoint into the trainer; what had been applied, and the digest of its manifest."""
    if not folder.is_dir():
        there = ", ".join(str(step) for step in steps(folder.parent)) or "none"
        raise NotFound(f"there is no checkpoint {folder.name}", field="restore_step", value=folder.name, limit=there)
    version = verify(folder, manifest_sha256)
    averages = folder / AVERAGES
    trainer.restore(
        load_file(folder / "model.safetensors"),
        load_file(folder / "optimizer.safetensors"),
        load_file(averages) if averages.exists() else {},
    )
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
