"""The vllm generation engine: vLLM batches and computes, our code draws.

options   what an operator may say
draws     how a sequence's tokens are to be drawn, and how that travels to vLLM's workers
worker    the extension in vLLM's workers: logits -> tokens and log-probabilities, through `preceptor_rollout.sampling`
batch     everything that runs in vLLM at once: steps it, takes what is due
unit      one unit's sequences: stops, chunks, what is due
weights   which weights vLLM holds: a swap waits until nothing runs; adapters live beside each other
engine    the calls
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from preceptor_serving.engines.protocol import Engine
from preceptor_serving.vllm.environment import prepare_environment

__all__ = ["create"]


def create(options: Mapping[str, Any]) -> Engine:
    """The factory that the engine registry names."""
    prepare_environment()
    from preceptor_rollout.vllm.engine import VllmGeneration
    from preceptor_rollout.vllm.options import VllmGenerationOptions

    return VllmGeneration(VllmGenerationOptions.from_mapping(options))
