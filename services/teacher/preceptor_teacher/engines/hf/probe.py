"""What a model does on fixed ids, measured before it serves: its noise, whether it looks ahead, whether prefixes can be kept."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor

from preceptor.errors import ConfigurationError
from preceptor.types import Ids
from preceptor_teacher.engines.hf.forward import Piece, forward
from preceptor_teacher.readout import Head

PROBE_TOKENS = 48
MAX_NOISE_NATS = {"f32": 1e-3, "bf16": 0.25, "f16": 0.05}  # beyond it the head is not what we take it for
# Beyond it two ways of computing the same states are not the same: other shapes or kernels round 16-bit states otherwise.
MAX_APART_NATS = {"f32": 1e-3, "bf16": 1.0, "f16": 0.25}
LIKELY_NATS = -20.0  # far below, a 16-bit logit of theirs says nothing


@torch.inference_mode()
def measure_noise(model: Any, head: Head, dtype: str) -> float:
    """Largest difference in nats between our log-probabilities and the model's own: the noise floor.

    A model whose head does more than we know differs by whole nats, and is refused instead of being scored wrongly.
    """
    ids = _on_device(model, _probe_ids(model, head))
    theirs = model(input_ids=ids, use_cache=False).logits[0].float()
    noise = _nats_apart(head.logits(_states(model, ids)), theirs)
    if not noise <= MAX_NOISE_NATS[dtype]:
        raise ConfigurationError(
            "the model's logits are not its head applied to its hidden states",
            field="model",
            value=f"{noise:.3g} nats apart",
            limit=f"<= {MAX_NOISE_NATS[dtype]} nats",
            hint="this architecture changes its logits in a way that the hf engine does not know",
        )
    return noise


@torch.inference_mode()
def check_causal(model: Any, head: Head, dtype: str) -> None:
    """Refuses a model whose scores of a token depend on the tokens after it: an encoder, or a prefix language model."""
    ids = _on_device(model, _probe_ids(model, head))
    first = ids[:, : ids.shape[1] // 2]
    apart = _nats_apart(head.logits(_states(model, first)), head.logits(_states(model, ids)[: first.shape[1]]))
    if not apart <= MAX_APART_NATS[dtype]:
        raise ConfigurationError(
            "the model looks ahead: what it predicts depends on the tokens that come later",
            field="model",
            value=model.config.model_type,
            limit="a decoder-only language model",
        )


@torch.inference_mode()
def check_attention(model: Any, head: Head, dtype: str) -> None:
    """Refuses a model whose fused attention is not its plain one: SDPA leaves out what it does not know, without a word."""
    if model.config._attn_implementation != "sdpa":
        return
    ids = _on_device(model, _probe_ids(model, head))
    fused = head.logits(_states(model, ids))
    model.set_attn_implementation("eager")
    apart = _nats_apart(fused, head.logits(_states(model, ids)))
    model.set_attn_implementation("sdpa")
    if not apart <= MAX_APART_NATS[dtype]:
        raise ConfigurationError(
            "the model's fused attention is not its plain attention",
            field="model",
            value=f"{model.config.model_type}: {apart:.3g} nats apart",
            limit=f"<= {MAX_APART_NATS[dtype]} nats",
            hint="the fused attention of torch leaves out something of this architecture",
        )


@torch.inference_mode()
def why_no_states(model: Any, head: Head, dtype: str) -> str | None:
    """None where keys and values of every token are all that a prefix leaves behind, so that it can be cut and joined."""
    if "position_ids" not in inspect.signature(model.base_model.forward).parameters:
        return "the architecture takes no position ids"
    ids = _probe_ids(model, head)
    cache = getattr(model.base_model(input_ids=_on_device(model, ids), use_cache=True), "past_key_values", None)
    kinds = {type(layer) for layer in getattr(cache, "layers", ())}
    if kinds != {transformers.cache_utils.DynamicLayer}:
        return f"its cache is not keys and values of every token ({', '.join(sorted(kind.__name__ for kind in kinds)) or 'none'})"
    try:
        apart = _growing_apart(model, head, ids)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        return f"a pass on kept states fails ({type(error).__name__}: {error})"
    return None if apart <= MAX_APART_NATS[dtype] else f"a pass on kept states is {apart:.3g} nats off"


def _growing_apart(model: Any, head: Head, ids: Ids) -> float:
    """Two continuations after prefixes of different lengths, in one batch, against the whole."""
    base, device = model.base_model, head.weight_vh.device
    whole = forward(base, [Piece(ids)], device, keep=[True])
    [states], [known] = whole.states, whole.key_values
    if known is None:
        return float("inf")
    cuts = [len(ids) // 3, len(ids) // 2]
    grown = forward(base, [Piece(ids[cut:], known.first(cut)) for cut in cuts], device, keep=[False, False])
    each = zip(cuts, grown.states, strict=True)
    return max(_nats_apart(head.logits(ours), head.logits(states[cut:])) for cut, ours in each)


def _probe_ids(model: Any, head: Head) -> Ids:
    count = min(PROBE_TOKENS, getattr(model.config, "max_position_embeddings", None) or PROBE_TOKENS)
    return (np.arange(count, dtype=np.int64) * 7919 % head.tokenizer_size).astype(np.uint32)


def _on_device(model: Any, ids: Ids) -> Tensor:
    return torch.from_numpy(ids.astype(np.int64))[None].to(model.device)


def _states(model: Any, ids: Tensor) -> Tensor:
    return model.base_model(input_ids=ids, use_cache=False).last_hidden_state[0]


def _nats_apart(ours_nv: Tensor, theirs_nv: Tensor) -> float:
    """The largest difference of log-probabilities that are not next to nothing; NaN where one of them is no number."""
    ours, theirs = ours_nv.log_softmax(-1), theirs_nv.log_softmax(-1)
    return (theirs - ours)[~(theirs <= LIKELY_NATS)].abs().max().item()
