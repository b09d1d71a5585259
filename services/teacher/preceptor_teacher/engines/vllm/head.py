"""vLLM's vocabulary head, for our readout."""

# pyright: reportMissingImports=false
# vLLM is in an environment of its own.

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor
from vllm.distributed import get_pp_group, get_tensor_model_parallel_world_size, tensor_model_parallel_all_gather

from preceptor.errors import ConfigurationError
from preceptor_teacher.readout import Head


@dataclass(frozen=True, slots=True)
class SplitHead(Head):
    """A head whose rows are spread over workers: its logits are vLLM's, gathered on each of them, in the weights' precision."""

    model: Any = None
    all_rows: int = 0

    @property
    def rows(self) -> int:
        return self.all_rows

    def logits(self, states_nh: Tensor, into: Tensor | None = None) -> Tensor:
        return self.model.compute_logits(states_nh).float()


@dataclass(frozen=True, slots=True)
class ServedHead:
    """A head and what names it."""

    head: Head
    head_sha256: bytes


def head_of(model: Any, tokenizer_size: int) -> ServedHead | None:
    """The head of a worker's model; None where the pipeline's last stage is another worker's."""
    if not get_pp_group().is_last_rank:
        return None
    text = model.get_language_model() if hasattr(model, "get_language_model") else model
    layer, logits = getattr(text, "lm_head", None), getattr(text, "logits_processor", None)
    weight = getattr(layer, "weight", None)
    if not isinstance(weight, Tensor) or not weight.is_floating_point() or logits is None:
        raise ConfigurationError(
            "the model's vocabulary head is not one that can be read",
            field="model",
            value=type(layer).__name__,
            limit="lm_head with a weight of floating-point numbers, and a logits_processor",
        )
    rows = int(logits.org_vocab_size)
    if tokenizer_size > rows:
        raise ConfigurationError(
            "the tokenizer has more ids than the head has rows", field="tokenizer", value=tokenizer_size, limit=rows
        )
    whole = Head(weight.detach()[:rows], tokenizer_size, _bias(layer, rows), float(logits.scale), logits.soft_cap)
    if get_tensor_model_parallel_world_size() == 1:
        return ServedHead(whole, whole.sha256())
    gathered = Head(
        tensor_model_parallel_all_gather(weight.detach(), 0)[:rows], tokenizer_size, None, whole.scale, whole.soft_cap
    )
    split = SplitHead(weight.detach(), tokenizer_size, None, whole.scale, whole.soft_cap, model, rows)
    return ServedHead(split, gathered.sha256())


def _bias(layer: Any, rows: int) -> Tensor | None:
    bias = getattr(layer, "bias", None)
    return None if bias is None else bias.detach().float()[:rows]
