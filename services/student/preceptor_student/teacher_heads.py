"""Heads of teachers that give hidden states: found by digest in the operator's folders, read once, kept within a bound.

A head is named by what the teacher says of it: the digest over its numbers, their type, scale and soft cap. Whichever folder has
it, equal states become equal logits; whoever sends a batch chooses a digest and never a place.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from preceptor.errors import ConfigurationError, TooLarge, Unsupported
from preceptor_serving.digests import tokenizer_size
from preceptor_serving.models.head import output_layer
from preceptor_serving.models.load import DTYPES, load_tokenizer, skeleton_of
from preceptor_serving.models.vocabulary_head import Head

TRIED = tuple(DTYPES.values())


class TeacherHeads:
    """Heads by digest; those used longest ago make room."""

    def __init__(self, folders: Sequence[Path], max_bytes: int, device: str = "cpu") -> None:
        self._folders, self._max_bytes, self._device = tuple(folders), max_bytes, device
        self._held: OrderedDict[bytes, Head] = OrderedDict()
        self._names: dict[tuple[Path, torch.dtype], bytes] = {}  # digests of heads that were read before

    def get(self, sha256: bytes) -> Head:
        """The head of that digest, or `Unsupported`; `TooLarge` where none was it and one was too large to be looked at."""
        if sha256 not in self._held:
            self._hold(sha256, self._found(sha256))
        self._held.move_to_end(sha256)
        return self._held[sha256]

    def _hold(self, sha256: bytes, head: Head) -> None:
        while self._held and _bytes(head.weight_vh) + sum(_bytes(one.weight_vh) for one in self._held.values()) > self._max_bytes:
            self._held.popitem(last=False)
        self._held[sha256] = head

    def _found(self, sha256: bytes) -> Head:
        too_large = 0
        for folder in self._folders:
            for dtype in TRIED:
                if self._names.get((folder, dtype), sha256) != sha256:
                    continue
                if (size := head_bytes(folder, dtype)) > self._max_bytes:
                    too_large = max(too_large, size)
                    continue
                head = head_in(folder, dtype, self._device)
                self._names[folder, dtype] = head.sha256()
                if self._names[folder, dtype] == sha256:
                    return head
        raise self._missing(sha256, too_large)

    def _missing(self, sha256: bytes, too_large: int) -> Unsupported | TooLarge:
        if too_large:
            return TooLarge("a teacher's head does not fit", field="head_sha256", value=f"{too_large} bytes",
                            limit=f"{self._max_bytes} bytes", hint="raise teacher_heads_bytes")  # fmt: skip
        return Unsupported(
            "the student service has no such head of a teacher", field="head_sha256", value=sha256.hex(),
            limit=f"f32, bf16 and f16 in {', '.join(path.name for path in self._folders) or 'no folder'}",
            hint="name the folder of exactly the weights that the teacher serves in teacher_heads of the student service",
        )  # fmt: skip


def head_in(folder: Path, dtype: torch.dtype, device: str = "cpu") -> Head:
    """The head of a model folder as a teacher of that type has it; nothing else of the folder is read."""
    output = output_layer(model := skeleton_of(folder))
    of_layer = {id(output.layer.weight): "weight", id(output.layer.bias): "bias"}
    found = {of_layer[id(one)]: name for name, one in _saved(model, folder).items() if id(one) in of_layer}
    if "weight" not in found:
        raise ConfigurationError("the weights of the head are not in the folder under the model's name for them",
                                 field="teacher_heads", value=folder.name)  # fmt: skip
    tensors = _read(folder, found)
    bias = tensors["bias"].to(dtype).float().to(device) if "bias" in tensors else None
    tokens = tokenizer_size(load_tokenizer(folder))
    return Head(tensors["weight"].to(device, dtype), tokens, bias, output.scale, output.soft_cap)


def head_bytes(folder: Path, dtype: torch.dtype) -> int:
    """What its weights take in memory."""
    return output_layer(skeleton_of(folder)).layer.weight.numel() * dtype.itemsize


def _saved(model: torch.nn.Module, folder: Path) -> dict[str, Tensor]:
    """Parameters by the names that the folder's files know; tied ones may have several."""
    saved = {name for path in sorted(folder.glob("*.safetensors")) for name in _names_in(path)}
    return {name: one for name, one in model.named_parameters(remove_duplicate=False) if name in saved}


def _names_in(path: Path) -> list[str]:
    with safe_open(path, framework="pt") as file:
        return list(file.keys())


def _read(folder: Path, names: dict[str, str]) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            there = set(file.keys())
            found |= {what: file.get_tensor(name) for what, name in names.items() if name in there}
    return found


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
