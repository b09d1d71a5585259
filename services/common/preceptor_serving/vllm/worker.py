"""What every engine of ours does inside vLLM's workers, apart from its extension."""

# pyright: reportMissingImports=false
# vLLM is in an environment of its own.

from __future__ import annotations

from typing import Any

from vllm.model_executor.layers.vocab_parallel_embedding import UnquantizedEmbeddingMethod

from preceptor_serving.vllm.probe import check_parts


def forget_other_weights(worker: Any) -> bool:
    """After weights were read in place of others: nothing that was computed from those is left."""
    runner = worker.model_runner
    check_parts(runner, ("kv_caches", "model"), "the model runner")
    for cache in runner.kv_caches:
        cache.zero_()  # attention multiplies what lies unused in a block by 0, which leaves NaN what it is
    _prepare_head(runner.model)
    return True


def _prepare_head(model: Any) -> None:
    """On a CPU vLLM multiplies by a packed copy of the head, and `reload_weights` leaves that of a tied head as it was."""
    text = model.get_language_model() if hasattr(model, "get_language_model") else model
    head: Any = getattr(text, "lm_head", None)
    method: Any = getattr(head, "quant_method", None)
    if isinstance(method, UnquantizedEmbeddingMethod):
        method.process_weights_after_loading(head)
