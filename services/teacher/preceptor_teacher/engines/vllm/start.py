"""A folder on disk to vLLM's engine core with our readout in its workers: checked, digested, compared with vLLM's own logits."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from preceptor.errors import ConfigurationError, Corrupt
from preceptor.types import ModelRef
from preceptor_serving.digests import template_sha256, tokenizer_sha256, tokenizer_size
from preceptor_serving.models.folder import folder_sha256
from preceptor_serving.models.load import load_tokenizer
from preceptor_serving.vllm.start import start_core
from preceptor_teacher.engines.vllm.core import Part, ScoringCore
from preceptor_teacher.engines.vllm.options import VllmOptions
from preceptor_teacher.engines.vllm.readings import Read

EXTENSION = "preceptor_teacher.engines.vllm.worker.ReadoutExtension"
PROBE_TOKENS = 48
MAX_NOISE_NATS = {"f32": 1e-3, "bf16": 0.25, "f16": 0.05}  # beyond it the head is not what we take it for


@dataclass(frozen=True, slots=True)
class Served:
    """One model, ready to score."""

    core: ScoringCore
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
    core = ScoringCore(start_core(options, EXTENSION))
    tokenizer = load_tokenizer(options.folder)
    size = tokenizer_size(tokenizer)
    config = core.config
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
        noise_floor_nats=measure_noise(core, size, options.dtype),
    )


def measure_noise(core: ScoringCore, size: int, dtype: str) -> float:
    """Largest difference in nats between our log-probabilities and vLLM's own, on fixed ids: the noise floor.

    A model whose head does more than we know differs by whole nats, and is refused instead of being scored wrongly.
    """
    count = min(PROBE_TOKENS, core.config.model_config.max_model_len - 1)
    ids = (np.arange(count) * 7919 % size).astype(np.uint32)
    core.run([Part("probe", ids, Read(0, 0, count), None, keeps_session=False)], lambda: False)
    noise: float = core.on_workers("preceptor_noise", "probe")
    if math.isnan(noise):
        raise Corrupt(
            "the model's logits are not numbers", field="model", hint="its weights diverged, or do not fit into this dtype"
        )
    if not noise <= MAX_NOISE_NATS[dtype]:
        raise ConfigurationError(
            "vLLM's logits are not the model's head applied to its hidden states",
            field="model",
            value=f"{noise:.3g} nats apart",
            limit=f"<= {MAX_NOISE_NATS[dtype]} nats",
            hint="this architecture changes its logits in a way that the vllm engine does not know",
        )
    return noise
