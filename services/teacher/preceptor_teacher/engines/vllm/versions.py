"""The versions of one teacher in vLLM: its whole weights, and LoRA adapters over them."""

# pyright: reportMissingImports=false
# vLLM is in an environment of its own.

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from safetensors import safe_open
from vllm.lora.request import LoRARequest

from preceptor.errors import Conflict, Exhausted, Unsupported, VersionGone
from preceptor.types import ModelInfo, ModelRef
from preceptor_serving.models.versions import check_base
from preceptor_serving.vllm.adapters import Adapters

READ_BY_US = ("lm_head", "embed_tokens")


@dataclass(frozen=True, slots=True)
class Version:
    """What a request is scored under."""

    info: ModelInfo
    adapter: LoRARequest | None = None

    @property
    def number(self) -> int:
        """Tells it from the other versions; 0 is the whole weights."""
        return 0 if self.adapter is None else self.adapter.lora_int_id


class Versions:
    """The newest first; the whole weights last."""

    def __init__(self, base: ModelInfo, adapters: Adapters) -> None:
        self._adapters = adapters
        self._versions = [Version(base)]

    def infos(self) -> tuple[ModelInfo, ...]:
        return tuple(version.info for version in self._versions)

    def find(self, ref: ModelRef | None) -> Version:
        """The newest one, or exactly the named one."""
        for version in self._versions:
            if ref is None or version.info.model == ref:
                return version
        raise VersionGone("this version is not loaded", field="teacher.exact", value=ref and ref.step)

    def load(self, ref: ModelRef, folder: Path) -> None:
        """Reads an adapter over the weights that are served."""
        base = self._versions[-1].info
        if any(version.info.model == ref for version in self._versions):
            return
        if ref.adapter is None:
            limit = "adapters over the weights that are served"
            raise Unsupported("the vllm engine holds one version of whole weights", field="version", value=ref.step, limit=limit)
        check_base(ref, base.model.manifest_sha256)
        request = self._adapters.request(ref, folder)
        if len(self._versions) > self._adapters.room:
            room = self._adapters.room
            raise Exhausted(
                "no room for another adapter", field="version", value=ref.step, limit=room, hint="raise max_cpu_loras"
            )
        _check_head_untouched(folder)
        self._adapters.read(request)
        self._versions.insert(0, Version(replace(base, model=ref), request))

    def drop(self, ref: ModelRef) -> None:
        if ref == self._versions[-1].info.model:
            raise Conflict("the whole weights cannot be dropped", field="version", value=ref.step)
        self._versions = [version for version in self._versions if version.info.model != ref]


def _check_head_untouched(folder: Path) -> None:
    """The readout applies the head of the whole weights."""
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="numpy") as file:
            touched = [name for name in file.keys() if any(part in name for part in READ_BY_US)]  # noqa: SIM118  not a mapping
        if touched:
            raise Unsupported(
                "the adapter changes the vocabulary's head or its embedding",
                field="version.adapter",
                value=touched[0],
                limit="layers between them",
            )
