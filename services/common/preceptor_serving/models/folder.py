"""Folders with a model in them: which ones are taken, and what names their content."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Literal, NoReturn

from preceptor.errors import ConfigurationError

Dtype = Literal["f32", "bf16", "f16"]

HASHED = ("*.safetensors", "*.json", "*.jinja")
HASH_BLOCK_BYTES = 8 << 20


def check_folder(folder: Path) -> None:
    """Refuses what is no model folder, weights in other formats, and models that bring their own code."""
    if not folder.is_dir():
        _refuse(folder, "is no folder", "a model folder")
    if not (folder / "config.json").is_file():
        _refuse(folder, "has no config.json", "a model folder")
    if not any(folder.glob("*.safetensors")):
        _refuse(folder, "has no *.safetensors", "safetensors weights")
    if "auto_map" in _configuration(folder):
        _refuse(folder, "brings code of its own (auto_map)", "a model class of transformers")


def _configuration(folder: Path) -> dict[str, object]:
    """The object in its config.json."""
    try:
        values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"{folder} has a config.json that cannot be read: {error}", field="folder") from None
    if not isinstance(values, dict):
        _refuse(folder, "has a config.json that holds no object", "a model folder")
    return values


def eos_ids_in(folder: Path) -> tuple[int, ...]:
    """The ids that end a response: those of the generation settings, else of the configuration."""
    for name in ("generation_config.json", "config.json"):
        path = folder / name
        found = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id") if path.is_file() else None
        if found is not None:
            return (found,) if isinstance(found, int) else tuple(found)
    return ()


def folder_sha256(folder: Path) -> bytes:
    """Names the content of a folder that no training run of ours wrote: over the sorted names and digests of its files."""
    lines = [
        f"{path.name} {path.stat().st_size} {file_sha256(path).hex()}\n"
        for pattern in HASHED
        for path in sorted(folder.glob(pattern))
        if path.is_file()
    ]
    return hashlib.sha256("".join(lines).encode()).digest()


def file_sha256(path: Path) -> bytes:
    """Over the bytes of one file, read in blocks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(HASH_BLOCK_BYTES):
            digest.update(block)
    return digest.digest()


def _refuse(folder: Path, why: str, limit: str) -> NoReturn:
    raise ConfigurationError(f"{folder} {why}", field="folder", value=str(folder), limit=limit)
