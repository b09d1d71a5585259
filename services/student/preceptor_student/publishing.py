"""Versions: the weights as a folder that transformers and other services load, beside its manifest."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from preceptor.types import AdapterRef, ModelRef
from preceptor_serving.durable import new_folder
from preceptor_serving.models.adapters import save_adapter
from preceptor_serving.models.folder import HASHED
from preceptor_serving.weights import verify, version_name, write_manifest
from preceptor_student.bases import Bases
from preceptor_student.trainer import Trainer

BESIDE_WEIGHTS = (*HASHED, "*.txt", "*.model")


def publish(versions: Path, bases: Bases, trainer: Trainer, ref: ModelRef) -> ModelRef:
    """Writes the current weights under the ref's name; the ref with its digests. A version that is there stays as it is.

    Of an adapter only itself is written; `manifest_sha256` then names the base that it stands on.
    """
    digest = _written(versions / version_name(ref), bases.folder, trainer)
    if trainer.is_adapter:
        return replace(ref, manifest_sha256=bases.sha256, adapter=AdapterRef(ref.run, digest))
    return replace(ref, manifest_sha256=digest)


def _written(folder: Path, base: Path, trainer: Trainer) -> bytes:
    if folder.is_dir():
        return verify(folder).manifest_sha256
    with new_folder(folder) as temporary:
        if trainer.is_adapter:
            save_adapter(trainer.model, temporary)
        else:
            copy_beside_weights(base, temporary)
            trainer.model.save_pretrained(temporary, state_dict=trainer.whole_weights())
        return write_manifest(temporary)


def copy_beside_weights(base: Path, folder: Path) -> None:
    """Tokenizer, template and generation settings, byte for byte; a manifest or an index of the base's own is left behind."""
    for path in _beside_weights(base):
        shutil.copyfile(path, folder / path.name)


def prune(versions: Path, keep: int, needed: Iterable[str] = ()) -> None:
    """Removes all but the newest `keep`, and those whose names are needed."""
    folders = sorted(versions.glob("step-*-epoch-*"), key=age_of)
    for folder in folders[:-keep]:
        if folder.name not in needed:
            shutil.rmtree(folder)


def _beside_weights(base: Path) -> list[Path]:
    found = {path for pattern in BESIDE_WEIGHTS for path in base.glob(pattern) if path.is_file()}
    return [p for p in sorted(found) if ".safetensors" not in p.name and p.name not in ("manifest.json", "config.json")]


def age_of(folder: Path) -> tuple[int, int]:
    _, step, _, epoch = folder.name.split("-")
    return int(epoch), int(step)
