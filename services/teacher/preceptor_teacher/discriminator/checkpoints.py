"""Checkpoints of one job's discriminator: `step-N/` after N updates, and `journal-N.jsonl` with the groups that came since.

Each folder has model.safetensors, optimizer.safetensors, state.json, and a manifest over them; it is filled under another name,
synced and renamed. The state after any group is the newest checkpoint and the groups behind it, done again in their order.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from preceptor_serving.durable import new_folder
from preceptor_serving.weights import verify, write_manifest
from preceptor_teacher.discriminator.learning import Trainer

_STEP, _JOURNAL = re.compile(r"step-([0-9]+)"), re.compile(r"journal-([0-9]+)\.jsonl")


def step_folder(folder: Path, updates: int) -> Path:
    return folder / f"step-{updates}"


def journal_file(folder: Path, updates: int) -> Path:
    return folder / f"journal-{updates}.jsonl"


def steps(folder: Path) -> list[int]:
    """Those that have a checkpoint, ascending."""
    return _numbers(folder, _STEP)


def journals(folder: Path) -> list[int]:
    """Those that have a journal, ascending."""
    return _numbers(folder, _JOURNAL)


def save(folder: Path, trainer: Trainer, state: Mapping[str, Any]) -> None:
    """Durable when it returns."""
    with new_folder(folder) as temporary:
        save_file(trainer.weights(), temporary / "model.safetensors")
        save_file(trainer.optimiser_state(), temporary / "optimizer.safetensors")
        (temporary / "state.json").write_text(json.dumps(state))
        write_manifest(temporary)


def restore(folder: Path, trainer: Trainer) -> dict[str, Any]:
    """Puts a checkpoint into the trainer; what was saved beside it. `Corrupt` where a file is not what its manifest says."""
    verify(folder)
    trainer.restore(load_file(folder / "model.safetensors"), load_file(folder / "optimizer.safetensors"))
    return json.loads((folder / "state.json").read_bytes())


def prune(folder: Path, keep: int) -> None:
    """Removes all but the newest `keep`, the start being one, with the journals that only lead to what is removed."""
    first = [0, *steps(folder)][-keep:][0]
    for step in steps(folder):
        if step < first:
            shutil.rmtree(step_folder(folder, step))
    for number in journals(folder):
        if number < first:
            journal_file(folder, number).unlink()


def _numbers(folder: Path, name: re.Pattern[str]) -> list[int]:
    return sorted(int(match[1]) for path in folder.iterdir() if (match := name.fullmatch(path.name)))
