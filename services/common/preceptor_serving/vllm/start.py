"""A folder on disk to vLLM's engine core with an extension of ours in its workers."""

# pyright: reportMissingImports=false
# vLLM is in an environment of its own.

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch
from vllm import EngineArgs
from vllm.platforms import current_platform
from vllm.v1.engine.core import EngineCore
from vllm.v1.executor import Executor

from preceptor.errors import ConfigurationError
from preceptor_serving.models.folder import check_folder
from preceptor_serving.vllm.options import VllmEngineOptions

DTYPES = {"f32": "float32", "bf16": "bfloat16", "f16": "float16"}
DEFAULTS: dict[str, Any] = {
    "async_scheduling": False,  # it hides the host's work behind steps that nobody has asked for yet
    "disable_log_stats": True,
    "use_tqdm_on_load": False,  # a service's stderr is its log
}
CPU_DEFAULTS: dict[str, Any] = {
    "async_scheduling": False,  # it hides the host's work behind steps that nobody has asked for yet
    "enforce_eager": True,  # compiling takes longer than it ever saves on a CPU
    "kv_cache_memory_bytes": 1 << 30,  # vLLM would take nine tenths of the machine's memory
}


def start_core(options: VllmEngineOptions, extension: str) -> EngineCore:
    """The model of a folder; `extension` is the class mixed into the workers. It sets this process's thread count."""
    check_folder(options.folder)
    os.environ["OMP_NUM_THREADS"] = str(options.threads)  # where it is unset, vLLM goes down to one thread
    torch.set_num_threads(options.threads)
    config = _config(options, extension)
    if current_platform.is_cpu() and config.model_config.enforce_eager:
        # Pieces of vLLM are compiled all the same, by a g++ that need not be there and that reads no path with a space.
        os.environ.setdefault("TORCH_COMPILE_DISABLE", "1")
    return EngineCore(config, Executor.get_class(config), log_stats=False)


def _config(options: VllmEngineOptions, extension: str) -> Any:
    defaults = DEFAULTS | (CPU_DEFAULTS if current_platform.is_cpu() else {})
    fixed = {
        "model": str(options.folder),
        "dtype": DTYPES[options.dtype],
        "load_format": "safetensors",
        "skip_tokenizer_init": True,
        "worker_extension_cls": extension,
    }
    return _checked(lambda: EngineArgs(**{**defaults, **options.engine_args, **fixed}).create_engine_config())


def _checked(make: Callable[[], Any]) -> Any:
    try:
        return make()
    except (ValueError, TypeError) as error:  # pydantic's errors are ValueErrors; the message names the argument
        raise ConfigurationError(f"vLLM refuses its arguments: {error}", field="engine_args") from error
