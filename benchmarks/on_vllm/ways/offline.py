"""vLLM's own offline engine, for the ways that are vLLM's."""

# pyright: reportMissingImports=false
# vLLM is in an environment of its own.

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.on_vllm.items import CACHE, TOPK
from preceptor_serving.vllm.environment import prepare_environment


def offline(folder: Path, environment: Mapping[str, str], **more: Any) -> Any:
    """A `vllm.LLM` on one thread that takes and gives ids; `environment` wins over what our engine sets."""
    prepare_environment()
    os.environ.update(environment)
    from vllm import LLM

    return LLM(
        **{
            "model": str(folder),
            "dtype": "float32",
            "load_format": "safetensors",
            "skip_tokenizer_init": True,
            "enforce_eager": True,
            "max_logprobs": TOPK,
            "disable_log_stats": True,
            "async_scheduling": False,
            **CACHE,
            **more,
        }
    )


def asked(model: Any, sequences: np.ndarray, **signals: Any) -> list[Any]:
    """vLLM's outputs for these prompts, each with the signals that are asked for and one token that nobody reads."""
    from vllm import SamplingParams

    params = SamplingParams(temperature=0.0, max_tokens=1, ignore_eos=True, detokenize=False, **signals)
    return model.generate([{"prompt_token_ids": ids.tolist()} for ids in sequences], params, use_tqdm=False)
