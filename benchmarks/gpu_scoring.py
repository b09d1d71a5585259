"""`python -m benchmarks.gpu_scoring`: G1 on one machine, with torch, transformers and this repository on PYTHONPATH.

For random models of real shapes and sequences of 1k to 8k tokens: the readout's time over its own head product (candidates,
top-k), the share of the device's peak that forward pass and head together reach, and the peak of memory over the weights'.
`--device cpu --shapes tiny` shows that the command itself works; figures count from a GPU only.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from transformers import Qwen3Config, Qwen3Model

from preceptor.types import RaggedIds
from preceptor_teacher.readout import Head, RowSpec, Signals, readout
from preceptor_teacher.readout.run import CUDA_CHUNK_BYTES

TOPK = 64
DTYPES = {"bf16": torch.bfloat16, "f16": torch.float16, "f32": torch.float32}
PEAK_TFLOPS = {"H100": 989.0, "H200": 989.0, "A100": 312.0, "L40S": 362.0, "B200": 2250.0}  # dense 16-bit, by the makers


@dataclass(frozen=True, slots=True)
class Shape:
    """A decoder as Qwen3 builds them."""

    hidden: int
    layers: int
    heads: int
    key_value_heads: int
    intermediate: int
    vocabulary: int
    head_size: int = 128


SHAPES = {
    "tiny": Shape(64, 2, 2, 1, 128, 2048, 32),
    "1b": Shape(2048, 16, 16, 8, 6144, 151_936),
    "4b": Shape(2560, 36, 32, 8, 9728, 151_936),
    "8b": Shape(4096, 36, 32, 8, 12_288, 151_936),
}


@dataclass(frozen=True, slots=True)
class Figures:
    """One shape at one length. Ratios are over the head's product alone; `mfu` is None where the device's peak is not known."""

    shape: str
    tokens: int
    parameters: int
    forward_s: float
    gemm_s: float
    candidates_s: float
    topk_s: float
    candidates_over_gemm: float
    topk_over_gemm: float
    tokens_per_s: float
    mfu: float | None
    peak_over_weights: float | None


def build(shape: Shape, device: str, dtype: torch.dtype) -> tuple[Any, Head]:
    """Random weights, made where they stay; the head is the embedding's, as in tied models."""
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_value_heads,
        head_dim=shape.head_size,
        max_position_embeddings=16_384,
    )
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            model = Qwen3Model(config).eval().requires_grad_(requires_grad=False)
    finally:
        torch.set_default_dtype(before)
    weight = model.get_parameter("embed_tokens.weight")
    return model, Head(weight, shape.vocabulary)


def seconds_of(call: Callable[[], object], device: str, repeats: int) -> float:
    """Median wall time, kernels finished; the first call warms up and does not count."""
    taken: list[float] = []
    for _ in range(repeats + 1):
        finish(device)
        began = time.perf_counter()
        call()
        finish(device)
        taken.append(time.perf_counter() - began)
    return median(taken[1:])


def finish(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def specs(rows: int, vocabulary: int) -> dict[str, RowSpec]:
    rng = np.random.default_rng(0)
    targets = rng.integers(0, vocabulary, rows)
    lists = RaggedIds(np.arange(rows + 1, dtype=np.uint32) * TOPK, rng.integers(0, vocabulary, rows * TOPK).astype(np.uint32))
    return {
        "candidates": RowSpec(Signals(sampled=True), targets, lists),
        "topk": RowSpec(Signals(sampled=True, topk=TOPK), targets),
    }


@torch.inference_mode()
def measure(name: str, model: Any, head: Head, tokens: int, device: str, repeats: int, peak_tflops: float | None) -> Figures:
    """One sequence of `tokens` tokens, every one of them a row."""
    rng = np.random.default_rng(1)
    ids = torch.from_numpy(rng.integers(0, head.rows, (1, tokens))).to(device)
    reset_peak(device)

    def forward() -> Tensor:
        return model(input_ids=ids, use_cache=False).last_hidden_state[0]

    states, wanted = forward(), specs(tokens, head.rows)
    chunk = max(1, CUDA_CHUNK_BYTES // (4 * head.rows))  # as large as the readout's own
    taken = {
        "forward": seconds_of(forward, device, repeats),
        "gemm": seconds_of(lambda: product(head, states, chunk), device, repeats),
        **{signal: seconds_of(lambda spec=spec: readout(states, head, spec), device, repeats) for signal, spec in wanted.items()},
    }
    body = sum(one.numel() for one in model.parameters()) - head.weight_vh.numel()
    whole_s = taken["forward"] + taken["topk"]
    flops = 2.0 * tokens * (body + head.weight_vh.numel()) + attention_flops(model.config, tokens)
    return Figures(
        shape=name,
        tokens=tokens,
        parameters=body + head.weight_vh.numel(),
        forward_s=taken["forward"],
        gemm_s=taken["gemm"],
        candidates_s=taken["candidates"],
        topk_s=taken["topk"],
        candidates_over_gemm=taken["candidates"] / taken["gemm"],
        topk_over_gemm=taken["topk"] / taken["gemm"],
        tokens_per_s=tokens / whole_s,
        mfu=flops / whole_s / (peak_tflops * 1e12) if peak_tflops else None,
        peak_over_weights=peak_over_weights(model, device),
    )


def product(head: Head, states: Tensor, chunk: int) -> None:
    """The head's product alone, a chunk at a time."""
    for part in states.split(chunk):
        head.logits(part)


def attention_flops(config: Any, tokens: int) -> float:
    """Scores and values of a causal model: half of the square."""
    return 2.0 * config.num_hidden_layers * config.num_attention_heads * config.head_dim * tokens * tokens


def reset_peak(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)


def peak_over_weights(model: Any, device: str) -> float | None:
    if not device.startswith("cuda"):
        return None
    return torch.cuda.max_memory_allocated(device) / sum(one.nbytes for one in model.parameters())


def known_peak_tflops(device: str) -> float | None:
    """By the device's name; otherwise it has to be told."""
    if not device.startswith("cuda"):
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for part, peak in PEAK_TFLOPS.items() if part in name), None)


def show(rows: Sequence[Figures], title: str) -> None:
    table = Table(title=title)
    columns = ("shape", "tokens", "forward s", "head s", "candidates / head", "topk / head", "tokens/s", "MFU", "peak / weights")
    for column in columns:
        table.add_column(column, justify="right")
    for row in rows:
        values = (row.forward_s, row.gemm_s, row.candidates_over_gemm, row.topk_over_gemm, row.tokens_per_s, row.mfu)
        values = (*values, row.peak_over_weights)
        table.add_row(row.shape, str(row.tokens), *("-" if value is None else f"{value:.4g}" for value in values))
    Console().print(table)


def run(options: argparse.Namespace) -> list[Figures]:
    peak = options.peak_tflops or known_peak_tflops(options.device)
    rows: list[Figures] = []
    for name in options.shapes:
        model, head = build(SHAPES[name], options.device, DTYPES[options.dtype])
        for tokens in options.tokens:
            rows.append(measure(name, model, head, tokens, options.device, options.repeats, peak))
        del model, head
    return rows


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cpu, cuda, cuda:1, ... (default: cuda)")
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=["1b", "4b", "8b"])
    parser.add_argument("--tokens", nargs="+", type=int, default=[1024, 2048, 4096, 8192])
    parser.add_argument("--dtype", choices=DTYPES, default="bf16")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--peak-tflops", type=float, help="dense peak of the device in this dtype, where its name does not tell")
    parser.add_argument(
        "--out", type=Path, default=Path("gpu_scoring.json"), help="where the figures go (default: gpu_scoring.json)"
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    rows = run(options)
    device = torch.cuda.get_device_name(options.device) if options.device.startswith("cuda") else platform.processor() or "cpu"
    show(rows, f"scoring on {device}, {options.dtype}, torch {torch.__version__}, k = {TOPK}")
    found = {"device": device, "dtype": options.dtype, "torch": torch.__version__, "rows": [asdict(row) for row in rows]}
    options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
