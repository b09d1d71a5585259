"""Versions: the weights as a folder that transformers and other services load, beside its manifest."""

from __future__ import annotations

import shutil
from collections.abc import Container
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from preceptor.types import AdapterRef, ModelRef
from preceptor_serving.durable import new_folder
from preceptor_serving.models.adapters import save_adapter
from preceptor_serving.models.folder import HASHED
from preceptor_serving.weights import verify, version_name, write_manifest
from preceptor_student.bases import Bases
from preceptor_student.trainer import Trainer

BESIDE_WEIGHTS = (*HASHED, "*.txt", "*.model")


def publish(versions: Path, bases: Bases, trainer: Trainer, ref: ModelRef, mean: str = "") -> ModelRef:
    """Writes the current weights, or a mean of them, under the ref's name; the ref with its digests.

    A version that is there stays as it is.
    Of an adapter only itself is written; `manifest_sha256` then names the base that it stands on.
    """
    digest = _written(versions / version_name(ref), bases.folder, trainer, mean)
    if trainer.is_adapter:
        return replace(ref, manifest_sha256=bases.sha256, adapter=AdapterRef(ref.run, digest))
    return replace(ref, manifest_sha256=digest)


def _written(folder: Path, base: Path, trainer: Trainer, mean: str) -> bytes:
    if folder.is_dir():
        return verify(folder).manifest_sha256
    with new_folder(folder) as temporary:
        if trainer.is_adapter:
            save_adapter(trainer.model, trainer.whole_weights(mean), temporary)
        else:
            copy_beside_weights(base, temporary)
            _save_whole(trainer, trainer.whole_weights(mean), temporary)
        return write_manifest(temporary)


def _save_whole(trainer: Trainer, weights: dict[str, Tensor], folder: Path) -> None:
    model = trainer.model
    model.save_pretrained(folder, state_dict=weights)
    if model.dtype != trainer.kind:  # ranks keep wider tensors than they compute with, and transformers names what it sees
        model.config.dtype = trainer.kind
        model.config.save_pretrained(folder)


def copy_beside_weights(base: Path, folder: Path) -> None:
    """Tokenizer, template and generation settings, byte for byte; a manifest or an index of the base's own is left behind."""
    for path in _beside_weights(base):
        shutil.copyfile(path, folder / path.name)


def prune(versions: Path, keep: int, since: int, needed: Container[int] = ()) -> None:
    """Removes all but the newest `keep`, those of step `since` or a later one, and those of the steps that are needed.

    Steps, not epochs: what was opened before a death names versions of the epoch that died, and is still open.
    """
    folders = sorted(versions.glob("step-*-epoch-*"), key=age_of)
    for folder in folders[:-keep]:
        _, step = age_of(folder)
        if step < since and step not in needed:
            shutil.rmtree(folder)


def _beside_weights(base: Path) -> list[Path]:
    found = {path for pattern in BESIDE_WEIGHTS for path in base.glob(pattern) if path.is_file()}
    return [p for p in sorted(found) if ".safetensors" not in p.name and p.name not in ("manifest.json", "config.json")]


def age_of(folder: Path) -> tuple[int, int]:
    _, step, _, epoch = folder.name.split("-")
    return int(epoch), int(step)
