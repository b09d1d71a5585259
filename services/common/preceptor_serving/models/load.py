"""A model folder to a causal language model and its tokenizer: local files, safetensors, no code but transformers' own."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

import torch
import transformers

from preceptor.errors import ConfigurationError
from preceptor_serving.models.device import usable_device
from preceptor_serving.models.folder import Dtype, check_folder

DTYPES: dict[Dtype, torch.dtype] = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}


def load_tokenizer(folder: Path) -> Any:
    """The folder's tokenizer."""
    return transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def load_causal_lm(folder: Path, dtype: Dtype, device: str) -> Any:
    """The folder's model on the device, in evaluation mode and without gradients."""
    place = usable_device(device)
    check_folder(folder)
    config = _config_of(folder)
    transformers.utils.logging.disable_progress_bar()  # a service's stderr is its log
    plain = {"attn_implementation": "eager"} if _needs_plain_attention(config) else {}
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(
        folder, config=config, dtype=DTYPES[dtype], local_files_only=True, use_safetensors=True, trust_remote_code=False, **plain
    )
    return model.to(place).eval().requires_grad_(requires_grad=False)


def skeleton_of(folder: Path) -> Any:
    """The folder's model without its weights: parameters by name and shape, and the configuration."""
    check_folder(folder)
    with torch.device("meta"):
        return transformers.AutoModelForCausalLM.from_config(_config_of(folder), trust_remote_code=False)


def _config_of(folder: Path) -> Any:
    """The configuration of a causal language model; other kinds are refused by name."""
    try:
        config: Any = transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except ValueError as error:
        raise ConfigurationError(f"{folder} has a config.json that transformers cannot read: {error}", field="folder") from error
    if getattr(config, "is_encoder_decoder", False):
        _refuse("the model is an encoder-decoder", config)
    if type(config) not in transformers.MODEL_FOR_CAUSAL_LM_MAPPING:
        _refuse("the model is no causal language model", config)
    return config


def _needs_plain_attention(config: Any) -> bool:
    """SDPA has no soft cap and leaves it out without a word; Falcon scales its ALiBi otherwise there."""
    return bool(getattr(config, "attn_logit_softcapping", None) or getattr(config, "alibi", False))


def _refuse(why: str, config: Any) -> NoReturn:
    raise ConfigurationError(why, field="model", value=config.model_type, limit="a decoder-only language model")


def max_tokens(config: Any, wanted: int | None) -> int:
    """The longest sequence: what is wanted where the model can read so much, else what the model's configuration says."""
    most = getattr(config, "max_position_embeddings", None)
    if most is None and wanted is None:
        raise ConfigurationError("the model does not say how long a sequence may be", field="max_sequence_tokens")
    if most is not None and wanted is not None and wanted > most:
        raise ConfigurationError("the model cannot read so many tokens", field="max_sequence_tokens", value=wanted, limit=most)
    return int(wanted or most or 0)
