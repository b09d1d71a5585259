"""The `vllm` engine: vLLM's engine core in the engine's own process, with our readout inside its workers.

options      what an operator may say
start        folder -> engine core, head, digests, noise floor
probe        what is needed of vLLM beyond its public interface, checked at start
core         requests through the engine core; prefix look-ups end where wanted rows begin
readings     which hidden states a request wants, and those that came
worker       the extension in vLLM's workers: hidden states -> rows, through `preceptor_teacher.readout`
turns        whose whole weights vLLM holds
versions     whole weights, and adapters over those of the operator
sessions     growing tasks that vLLM keeps open, bounded
engine       the calls
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
    from preceptor_teacher.engines.vllm.engine import VllmEngine
    from preceptor_teacher.engines.vllm.options import VllmOptions

    return VllmEngine(VllmOptions.from_mapping(options))
