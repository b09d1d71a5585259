"""LoRA adapters over a base whose memory they share: made, written into a version's folder, and read from one.

    adapter_model.safetensors   base_model.model.<layer>.lora_A.weight, .lora_B.weight: the names that peft and vLLM read
    adapter_config.json         peft's

A model with an adapter has modules of its own around the base's tensors, so that many of them stand over one frozen base and none
sees another.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from preceptor.errors import ConfigurationError, Corrupt
from preceptor.extras import require

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
SLOT = "default"  # the name that peft gives to an adapter inside a model; it is not written
PREFIX = "base_model.model."
ABOUT_THE_FILE = {"auto_mapping", "base_model_name_or_path", "inference_mode", "peft_version", "revision", "task_type"}


def is_adapter(folder: Path) -> bool:
    """Whether a version's folder holds an adapter, not a whole model."""
    return (folder / CONFIG).is_file()


def with_adapter(base: Any, rank: int, alpha: float, target_modules: tuple[str, ...] | str, seed: int) -> Any:
    """A model with a fresh adapter over the frozen base; it computes what the base computes until it is trained.

    Only the adapter carries gradients; it is f32, whatever the base is. The same seed gives the same start.
    """
    peft = require("peft", extra="models")
    named = target_modules if isinstance(target_modules, str) else list(target_modules)
    config = peft.LoraConfig(r=rank, lora_alpha=alpha, target_modules=named, lora_dropout=0.0, bias="none", task_type="CAUSAL_LM")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed % (1 << 63))
        try:
            model: Any = peft.inject_adapter_in_model(config, _over(base), SLOT)
        except ValueError as error:
            raise _no_such_layer(named, str(error)) from error
    if odd := [name for name, _ in model.named_parameters() if "lora_" in name and not is_part(name)]:
        raise _no_such_layer(named, f"{odd[0]} is no adapter of a linear layer")
    if isinstance(model.get_output_embeddings(), peft.tuners.tuners_utils.BaseTunerLayer):
        raise _no_such_layer(named, "the head takes none: losses read its weights as they are")
    config.target_modules = sorted(config.target_modules)  # peft keeps a set: its order would change the file's digest
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(is_part(name))
        if is_part(name):
            parameter.data = parameter.data.float()
    return model.eval()


def _no_such_layer(named: object, why: str) -> ConfigurationError:
    return ConfigurationError(f"the model takes no such adapter: {why}", field="training.lora.target_modules", value=str(named),
                              hint="name linear layers of this model, or all-linear")  # fmt: skip


def is_part(name: str) -> bool:
    """Whether a parameter of this name belongs to the adapter."""
    return f".lora_A.{SLOT}." in name or f".lora_B.{SLOT}." in name


def adapter_weights(model: Any) -> dict[str, Tensor]:
    """The adapter's tensors under the names of its file."""
    return {_file_name(name): one.detach() for name, one in model.named_parameters() if is_part(name)}


def save_adapter(model: Any, weights: Mapping[str, Tensor], folder: Path) -> None:
    """Both files of a model that `with_adapter` gave. `weights`: the adapter's, under the names of the model's parameters."""
    save_file({_file_name(name): one.contiguous() for name, one in weights.items()}, folder / WEIGHTS)
    values = model.peft_config[SLOT].to_dict() | {"base_model_name_or_path": None, "inference_mode": True}
    (folder / CONFIG).write_text(json.dumps(values, indent=2, sort_keys=True, default=str))


@torch.no_grad()
def load_adapter(base: Any, folder: Path) -> Any:
    """The base with the adapter of a folder, frozen."""
    try:
        values = json.loads((folder / CONFIG).read_bytes())
        rank, alpha, named = int(values["r"]), float(values["lora_alpha"]), values["target_modules"]
        targets = named if isinstance(named, str) else tuple(named)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Corrupt(f"{folder / CONFIG} is no adapter's configuration", field=CONFIG, value=str(error)) from error
    model = with_adapter(base, rank, alpha, targets, 0)
    _check_plain(values, model.peft_config[SLOT].to_dict())
    stored, own = load_file(folder / WEIGHTS), adapter_weights(model)
    if odd := sorted(stored.keys() ^ own.keys()):
        raise Corrupt(f"the adapter is of another model: {odd[0]}", field=WEIGHTS, value=odd[0])
    for name, tensor in own.items():
        if tensor.shape != stored[name].shape:
            raise Corrupt(f"the adapter has another shape at {name}", field=WEIGHTS, value=tuple(stored[name].shape))
        tensor.copy_(stored[name])
    return model.requires_grad_(requires_grad=False)


def merged(base: Any, folder: Path) -> Any:
    """A whole model of its own: the base plus what the adapter adds."""
    peft = require("peft", extra="models")
    load_adapter(base, folder)  # refuses what is not a plain adapter of this base
    return peft.PeftModel.from_pretrained(copy.deepcopy(base), folder).merge_and_unload()


def _over(base: Any) -> Any:
    """The same tensors in modules of their own."""
    shared: dict[int, Any] = {id(one): one for one in (*base.parameters(), *base.buffers())}
    return copy.deepcopy(base, shared)


def _file_name(name: str) -> str:
    return PREFIX + name.replace(f".{SLOT}.", ".")


def _check_plain(stored: dict[str, Any], plain: dict[str, Any]) -> None:
    """Other kinds of adapters change the base, or compute otherwise; loading one as a plain one would be silent."""
    plain = json.loads(json.dumps(plain, default=str))
    odd = [key for key in sorted(stored) if key not in ABOUT_THE_FILE and stored[key] != plain.get(key)]
    if odd:
        raise ConfigurationError("this kind of adapter is not served", field=f"{CONFIG}.{odd[0]}", value=stored[odd[0]],
                                 limit=plain.get(odd[0]), hint="plain LoRA with one rank is")  # fmt: skip
