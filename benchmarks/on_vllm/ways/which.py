"""The ways by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from benchmarks.on_vllm.ways import connector, extension, per_row_ids, prompt_logprobs
from benchmarks.on_vllm.ways.found import Found

WAYS: Mapping[str, Callable[[Path, int], Found]] = {
    "extension.topk": partial(extension.measure, signal="topk"),
    "extension.candidates": partial(extension.measure, signal="candidates"),
    "prompt_logprobs": prompt_logprobs.measure,
    "connector.vllm": partial(connector.measure, whose="vllm"),
    "connector.ours": partial(connector.measure, whose="ours"),
    "per_row_ids.runner_1": partial(per_row_ids.measure, runner="0"),
    "per_row_ids.runner_2": partial(per_row_ids.measure, runner="1"),
}
"""Name -> what tries it."""
