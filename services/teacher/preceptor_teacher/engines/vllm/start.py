"""A folder on disk to vLLM's engine core with our readout in its workers: checked, digested, compared with vLLM's own logits."""

# pyright: reportMissingImports=false
# vLLM is in an environment of its own.

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from vllm import EngineArgs
from vllm.platforms import current_platform
from vllm.v1.engine.core import EngineCore
from vllm.v1.executor import Executor

from preceptor.errors import ConfigurationError
from preceptor.types import ModelRef
from preceptor_serving.digests import template_sha256, tokenizer_sha256, tokenizer_size
from preceptor_serving.models.folder import check_folder, folder_sha256
from preceptor_serving.models.load import load_tokenizer
from preceptor_teacher.engines.vllm.core import Core, Part
from preceptor_teacher.engines.vllm.options import VllmOptions
from preceptor_teacher.engines.vllm.readings import Read

EXTENSION = "preceptor_teacher.engines.vllm.worker.ReadoutExtension"
DTYPES = {"f32": "float32", "bf16": "bfloat16", "f16": "float16"}
DEFAULTS: dict[str, Any] = {
    "async_scheduling": False,  # it hides the host's work behind decoding, of which there is none
    "disable_log_stats": True,
    "use_tqdm_on_load": False,  # a service's stderr is its log
}
CPU_DEFAULTS: dict[str, Any] = {
    "enforce_eager": True,  # compiling takes longer than it ever saves on a CPU
    "kv_cache_memory_bytes": 1 << 30,  # vLLM would take nine tenths of the machine's memory
}
PROBE_TOKENS = 48
MAX_NOISE_NATS = {"f32": 1e-3, "bf16": 0.25, "f16": 0.05}  # beyond it the head is not what we take it for


@dataclass(frozen=True, slots=True)
class Served:
    """One model, ready to score."""

    core: Core
    ref: ModelRef
    tokenizer_sha256: bytes
    template_sha256: bytes
    tokenizer_size: int
    head_rows: int
    head_sha256: bytes
    max_model_len: int
    max_num_seqs: int
    noise_floor_nats: float


def serve(options: VllmOptions) -> Served:
    """The model of a folder. It sets this process's thread count: it is meant to be alone in it."""
    check_folder(options.folder)
    os.environ["OMP_NUM_THREADS"] = str(options.threads)  # where it is unset, vLLM goes down to one thread
    torch.set_num_threads(options.threads)
    tokenizer = load_tokenizer(options.folder)
    size = tokenizer_size(tokenizer)
    config = _config(options)
    core = Core(EngineCore(config, Executor.get_class(config), log_stats=False))
    head_rows, head_sha256 = core.on_workers("preceptor_install", size)
    return Served(
        core=core,
        ref=ModelRef(options.name, manifest_sha256=folder_sha256(options.folder)),
        tokenizer_sha256=tokenizer_sha256(tokenizer),
        template_sha256=template_sha256(tokenizer),
        tokenizer_size=size,
        head_rows=head_rows,
        head_sha256=head_sha256,
        max_model_len=config.model_config.max_model_len,
        max_num_seqs=config.scheduler_config.max_num_seqs,
        noise_floor_nats=_measure_noise(core, size, config.model_config.max_model_len, options.dtype),
    )


def _config(options: VllmOptions) -> Any:
    defaults = DEFAULTS | (CPU_DEFAULTS if current_platform.is_cpu() else {})
    fixed = {
        "model": str(options.folder),
        "dtype": DTYPES[options.dtype],
        "load_format": "safetensors",
        "skip_tokenizer_init": True,
        "worker_extension_cls": EXTENSION,
    }
    return _checked(lambda: EngineArgs(**{**defaults, **options.engine_args, **fixed}).create_engine_config())


def _checked(make: Callable[[], Any]) -> Any:
    try:
        return make()
    except (ValueError, TypeError) as error:  # pydantic's errors are ValueErrors; the message names the argument
        raise ConfigurationError(f"vLLM refuses its arguments: {error}", field="engine_args") from error


def _measure_noise(core: Core, size: int, max_tokens: int, dtype: str) -> float:
    """Largest difference in nats between our log-probabilities and vLLM's own, on fixed ids: the noise floor.

    A model whose head does more than we know differs by whole nats, and is refused instead of being scored wrongly.
    """
    count = min(PROBE_TOKENS, max_tokens - 1)
    ids = (np.arange(count) * 7919 % size).astype(np.uint32)
    core.run([Part("probe", ids, Read(0, 0, count), None, keeps_session=False)], lambda: False)
    noise: float = core.on_workers("preceptor_noise", "probe")
    if not noise <= MAX_NOISE_NATS[dtype]:
        raise ConfigurationError(
            "vLLM's logits are not the model's head applied to its hidden states",
            field="model",
            value=f"{noise:.3g} nats apart",
            limit=f"<= {MAX_NOISE_NATS[dtype]} nats",
            hint="this architecture changes its logits in a way that the vllm engine does not know",
        )
    return noise
