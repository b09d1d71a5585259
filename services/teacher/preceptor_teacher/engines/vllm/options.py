"""What a `vllm` teacher can be told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field

from preceptor_serving.vllm.options import REFUSED as REFUSED_BY_ALL
from preceptor_serving.vllm.options import VllmEngineOptions

REFUSED: dict[str, str] = REFUSED_BY_ALL | {
    "served_model_name": "the teacher's name is the key of its entry",
    "runner": "a teacher scores prompts",
    "convert": "a teacher scores prompts",
    "worker_extension_cls": "the readout is one, and there is room for one",
    "data_parallel_size": "say replicas in the teachers file: a process for each, which share the work of one queue",
    "kv_transfer_config": "states behind a cache that others filled would be missing",
    "speculative_config": "a teacher draws no tokens",
}


class VllmOptions(VllmEngineOptions):
    """One teacher in one engine core."""

    refused: ClassVar[Mapping[str, str]] = REFUSED

    max_versions: int = Field(default=2, ge=1)
    """Versions of whole weights that may be named. One of them is in memory; another is read when it is scored under."""

    max_topk: int = Field(default=4096, ge=0)
    """Largest k of a want."""

    max_candidates_per_row: int = Field(default=4096, ge=0)
    """Longest list of candidate ids of a row."""

    max_samples: int = Field(default=256, ge=0)
    """Most draws per row."""
