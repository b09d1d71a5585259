"""Versions: the weights as a folder that transformers and other services load, beside its manifest."""

from __future__ import annotations

import shutil
from pathlib import Path

from preceptor.types import ModelRef
from preceptor_serving.durable import new_folder
from preceptor_serving.models.folder import HASHED
from preceptor_serving.weights import verify, version_name, write_manifest
from preceptor_student.trainer import Trainer

BESIDE_WEIGHTS = (*HASHED, "*.txt", "*.model")


def publish(versions: Path, base: Path, trainer: Trainer, ref: ModelRef) -> bytes:
    """Writes the current weights under the ref's name; the digest of the manifest. One that is there already stays as it is."""
    folder = versions / version_name(ref)
    if folder.is_dir():
        return verify(folder).manifest_sha256
    with new_folder(folder) as temporary:
        for path in _beside_weights(base):
            shutil.copyfile(path, temporary / path.name)
        trainer.model.save_pretrained(temporary)
        return write_manifest(temporary)


def prune(versions: Path, keep: int) -> None:
    """Removes all but the newest `keep`."""
    folders = sorted(versions.glob("step-*-epoch-*"), key=_age)
    for folder in folders[:-keep]:
        shutil.rmtree(folder)


def _beside_weights(base: Path) -> list[Path]:
    """Tokenizer, template and generation settings, byte for byte; a manifest or an index of the base's own is left behind."""
    found = {path for pattern in BESIDE_WEIGHTS for path in base.glob(pattern) if path.is_file()}
    return [p for p in sorted(found) if ".safetensors" not in p.name and p.name not in ("manifest.json", "config.json")]


def _age(folder: Path) -> tuple[int, int]:
    _, step, _, epoch = folder.name.split("-")
    return int(epoch), int(step)
