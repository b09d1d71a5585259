"""Versions of one model on one device: whole ones from their folders, adapters over one base in memory."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

from preceptor.errors import WrongPair
from preceptor.types import ModelRef
from preceptor_serving.models.adapters import load_adapter
from preceptor_serving.models.folder import Dtype, folder_sha256
from preceptor_serving.models.load import load_causal_lm


class VersionLoader:
    """Loads what a `ModelRef` names. The base stays in memory from the first adapter on, under all of them."""

    def __init__(self, base: Path, dtype: Dtype, device: str) -> None:
        self.base = base
        self._dtype: Dtype = dtype
        self._device = device
        self._base_sha256 = b""
        self._first: weakref.ref[Any] | None = None
        self._shared: Any = None

    def tokenizer_folder(self, folder: Path, ref: ModelRef | None) -> Path:
        """Where a version's tokenizer is: an adapter has none of its own."""
        return self.base if ref is not None and ref.adapter is not None else folder

    def load(self, folder: Path, ref: ModelRef | None) -> Any:
        """The frozen model of a folder, in evaluation mode."""
        if ref is not None and ref.adapter is not None:
            self._base_sha256 = self._base_sha256 or folder_sha256(self.base)
            check_base(ref, self._base_sha256)
            return load_adapter(self._kept_base(), folder)
        model = load_causal_lm(folder, self._dtype, self._device)
        if folder == self.base:
            self._first = weakref.ref(model)
        return model

    def _kept_base(self) -> Any:
        if self._shared is None:
            alive = self._first() if self._first else None
            self._shared = alive if alive is not None else load_causal_lm(self.base, self._dtype, self._device)
        return self._shared


def check_base(version: ModelRef, base_sha256: bytes) -> None:
    """Refuses an adapter over other whole weights than these."""
    if version.manifest_sha256 != base_sha256:
        raise WrongPair(
            "the adapter stands on another base than the one that is served",
            field="version.manifest_sha256",
            value=version.manifest_sha256.hex(),
            limit=base_sha256.hex(),
        )
