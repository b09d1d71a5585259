"""Which weights vLLM holds, and which versions units may name.

vLLM holds one set of whole weights: a version with others is read in their place, in between units, so that no sequence goes on
with keys and values of other weights; the engine keeps the units in order. Adapters live beside each other over the same weights,
and each request names its own.
"""

# pyright: reportMissingImports=false
# vLLM is in an environment of its own.

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path

from vllm.lora.request import LoRARequest

from preceptor.errors import Conflict, VersionGone
from preceptor.types import ModelRef
from preceptor_rollout.vocabulary import Vocabulary
from preceptor_serving.models.folder import check_folder
from preceptor_serving.models.same import check_same_model
from preceptor_serving.models.versions import check_base
from preceptor_serving.vllm.adapters import Adapters
from preceptor_serving.vllm.core import Core

log = logging.getLogger("preceptor.engine")


@dataclass(frozen=True, slots=True)
class Held:
    """A version that units may name: where its whole weights are, and its adapter over them."""

    ref: ModelRef
    folder: Path
    adapter: LoRARequest | None = None


class Weights:
    """The versions of one student in one engine core."""

    def __init__(self, core: Core, base: Held, vocabulary: Vocabulary, adapters: Adapters) -> None:
        self._core, self._vocabulary, self._adapters = core, vocabulary, adapters
        self._base = base
        self._loaded = base.ref.manifest_sha256  # names the whole weights that vLLM holds
        self._versions = {base.ref: base}  # the newest at the end

    def refs(self) -> list[ModelRef]:
        """The newest first."""
        return list(reversed(self._versions))

    def find(self, version: ModelRef) -> Held:
        held = self._versions.get(version)
        if held is None:
            raise VersionGone("this version is not loaded", field="version", value=version.step)
        return held

    def add(self, version: ModelRef, folder: Path) -> Held:
        """A verified folder becomes a version that units may name."""
        if version in self._versions:
            return self._versions[version]
        held = self._whole(version, folder) if version.adapter is None else self._adapter(version, folder)
        self._versions[version] = held
        return held

    def drop(self, version: ModelRef) -> None:
        if self._versions.keys() == {version}:
            raise Conflict("the last version cannot be dropped", field="version", value=version.step)
        self._versions.pop(version, None)

    def are_loaded(self, held: Held) -> bool:
        """True where vLLM holds this version's whole weights."""
        return self._loaded == held.ref.manifest_sha256

    def use(self, held: Held) -> LoRARequest | None:
        """Makes vLLM hold this version, and says with which adapter. Other weights are read only where nothing runs."""
        if not self.are_loaded(held):
            began = time.perf_counter()
            self._core.reload(held.folder)
            self._loaded = held.ref.manifest_sha256
            log.info("weights read", extra={"step": held.ref.step, "seconds": round(time.perf_counter() - began, 3)})
        if held.adapter is not None:
            self._adapters.read(held.adapter)
        return held.adapter

    def _whole(self, version: ModelRef, folder: Path) -> Held:
        check_folder(folder)
        self._vocabulary.check_same(folder)
        check_same_model(self._base.folder, folder)
        return Held(version, folder)

    def _adapter(self, version: ModelRef, folder: Path) -> Held:
        request = self._adapters.request(version, folder)
        over = next((one for ref, one in self._versions.items() if _is_base_of(ref, version)), self._base)
        check_base(version, over.ref.manifest_sha256)
        held = Held(version, over.folder, request)
        if self.are_loaded(held):
            self._adapters.read(request)  # what vLLM refuses is refused now
        return held


def _is_base_of(ref: ModelRef, version: ModelRef) -> bool:
    return ref.adapter is None and ref.manifest_sha256 == version.manifest_sha256
