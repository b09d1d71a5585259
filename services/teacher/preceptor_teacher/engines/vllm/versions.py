"""The versions of one teacher in vLLM: whole weights that take turns, and LoRA adapters over those of the operator."""

# pyright: reportMissingImports=false
# vLLM is in an environment of its own.

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from safetensors import safe_open
from vllm.lora.request import LoRARequest

from preceptor.errors import Conflict, Exhausted, Unsupported, VersionGone, WrongPair
from preceptor.types import ModelInfo, ModelRef
from preceptor_serving.digests import template_sha256, tokenizer_sha256
from preceptor_serving.models.folder import check_folder
from preceptor_serving.models.load import load_tokenizer
from preceptor_serving.models.same import check_same_model
from preceptor_serving.models.versions import check_base
from preceptor_serving.vllm.adapters import Adapters
from preceptor_teacher.engines.vllm.core import ScoringCore
from preceptor_teacher.engines.vllm.start import measure_noise
from preceptor_teacher.engines.vllm.turns import Turns, Whole

READ_BY_US = ("lm_head", "embed_tokens")


@dataclass(frozen=True, slots=True)
class Version:
    """What a request is scored under: whole weights, and what stands over them."""

    info: ModelInfo
    weights: Whole
    adapter: LoRARequest | None = None

    @property
    def number(self) -> int:
        """Tells it from the versions over the same whole weights; 0 is the whole weights."""
        return 0 if self.adapter is None else self.adapter.lora_int_id


class Versions:
    """The newest first; the operator's last. `room`: for versions of whole weights, the operator's included."""

    def __init__(self, served: Version, core: ScoringCore, turns: Turns, room: int) -> None:
        self._core, self._turns, self._room = core, turns, room
        self._adapters = Adapters(core)
        self._versions = [served]

    def infos(self) -> tuple[ModelInfo, ...]:
        return tuple(version.info for version in self._versions)

    def use(self, ref: ModelRef | None) -> Version:
        """The newest one, or exactly the named one; its whole weights are in vLLM until another one is used."""
        for version in self._versions:
            if ref is None or version.info.model == ref:
                self._turns.take(version.weights)
                return version
        raise VersionGone("this version is not loaded", field="teacher.exact", value=ref and ref.step)

    def load(self, ref: ModelRef, folder: Path) -> None:
        """Reads whole weights of the same model, or an adapter over those of the operator."""
        if all(version.info.model != ref for version in self._versions):
            self._versions.insert(0, self._whole(ref, folder) if ref.adapter is None else self._adapter(ref, folder))

    def drop(self, ref: ModelRef) -> None:
        if ref == self._served.info.model:
            raise Conflict("the whole weights of the operator cannot be dropped", field="version", value=ref.step)
        self._versions = [version for version in self._versions if version.info.model != ref]

    @property
    def _served(self) -> Version:
        return self._versions[-1]

    def _whole(self, ref: ModelRef, folder: Path) -> Version:
        if sum(version.adapter is None for version in self._versions) >= self._room:
            raise Exhausted("no room for another version of whole weights", field="version", value=ref.step, limit=self._room)
        check_folder(folder)
        check_same_model(self._served.weights.folder, folder)
        template = self._template_of(folder)
        weights = Whole.of(folder)
        self._turns.take(weights)
        info = self._served.info
        rows, digest = self._turns.head()
        noise_nats = measure_noise(self._core, info.tokenizer_size, info.dtype)
        info = replace(info, model=ref, template_sha256=template, head_rows=rows, head_sha256=digest, noise_floor_nats=noise_nats)
        return Version(info, weights)

    def _template_of(self, folder: Path) -> bytes:
        """The version's own chat template; its tokenizer has to be that of the weights that are served."""
        tokenizer, ours = load_tokenizer(folder), self._served.info.tokenizer_sha256
        if (theirs := tokenizer_sha256(tokenizer)) != ours:
            raise WrongPair(
                "the version has another tokenizer than the model that is served",
                field="tokenizer_sha256",
                value=theirs.hex(),
                limit=ours.hex(),
            )
        return template_sha256(tokenizer)

    def _adapter(self, ref: ModelRef, folder: Path) -> Version:
        served = self._served
        check_base(ref, served.info.model.manifest_sha256)
        request, room = self._adapters.request(ref, folder), self._adapters.room
        if sum(version.adapter is not None for version in self._versions) >= room:
            raise Exhausted(
                "no room for another adapter", field="version", value=ref.step, limit=room, hint="raise max_cpu_loras"
            )
        _check_head_untouched(folder)
        self._adapters.read(request)
        return Version(replace(served.info, model=ref), served.weights, request)


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
