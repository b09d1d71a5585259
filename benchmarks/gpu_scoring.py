"""`python benchmarks/gpu_scoring.py`: G1 on a machine with a CUDA GPU, torch, transformers and this repository, not installed.

For random models of real shapes and sequences of 1k to 8k tokens: the readout's time over its own head product (candidates,
top-k), the share of the device's peak that forward pass and head together reach, the peak of memory of the whole over the
weights', and of a readout over its inputs (P7). What does not fit is a row that says so. `--service` adds the service over the
engine in-process, for which the project has to be installed. `--device cpu --shapes tiny` shows that the command itself works;
figures count from a GPU only.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import Qwen3Config, Qwen3Model

sys.path.extend(str(Path(__file__).parents[1] / root) for root in (".", "clients", "services/common", "services/teacher"))

from benchmarks.results import Result
from preceptor.types import RaggedIds
from preceptor_teacher.readout import Head, RowSpec, Signals, readout
from preceptor_teacher.readout.run import chunk_rows_of

TOPK = 64
DTYPES = {"bf16": torch.bfloat16, "f16": torch.float16, "f32": torch.float32}
PEAK_TFLOPS = {"H100": 989.0, "H200": 989.0, "A100": 312.0, "L40S": 362.0, "B200": 2250.0}  # dense 16-bit, by the makers
CANDIDATES_BAR, TOPK_BAR, MFU_BAR, SERVICE_BAR, MEMORY_BAR = 1.3, 2.0, 0.5, 0.95, 1.25
MEMORY_ROWS, MEMORY_HIDDEN = 8192, 1024
SMALL_ROWS = 256  # where only the command is tried


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
HAS_MFU_BAR = "8b"


@dataclass(frozen=True, slots=True)
class Failed:
    """A figure that could not be had; `id` is its place in the table."""

    id: str
    error: str

    def as_json(self) -> dict[str, Any]:
        return {"id": self.id, "error": self.error}


Row = Result | Failed


@dataclass(frozen=True, slots=True)
class Machine:
    """Where and how it is measured. `peak_tflops` is None where the device's peak in this dtype is not known."""

    device: str
    dtype: str
    repeats: int
    peak_tflops: float | None

    @property
    def is_cuda(self) -> bool:
        return self.device.startswith("cuda")

    def finish(self) -> None:
        """Returns when all kernels have ended."""
        if self.is_cuda:
            torch.cuda.synchronize(self.device)

    def seconds_of(self, call: Callable[[], object]) -> float:
        """Median wall time, kernels finished; the first call warms up and does not count."""
        taken: list[float] = []
        for _ in range(self.repeats + 1):
            self.finish()
            began = time.perf_counter()
            call()
            self.finish()
            taken.append(time.perf_counter() - began)
        return median(taken[1:])

    def peak_bytes(self, call: Callable[[], object]) -> int | None:
        """The most that was allocated at once while it ran, what stood there before included."""
        if not self.is_cuda:
            return None
        torch.cuda.reset_peak_memory_stats(self.device)
        call()
        return torch.cuda.max_memory_allocated(self.device)


# ---------------------------------------------------------------- one shape


def build(shape: Shape, machine: Machine) -> tuple[Any, Head]:
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
    torch.set_default_dtype(DTYPES[machine.dtype])
    try:
        with torch.device(machine.device):
            model = Qwen3Model(config).eval().requires_grad_(requires_grad=False)
    finally:
        torch.set_default_dtype(before)
    weight = model.get_parameter("embed_tokens.weight")
    return model, Head(weight, shape.vocabulary)


def specs(rows: int, vocabulary: int) -> dict[str, RowSpec]:
    rng = np.random.default_rng(0)
    targets = rng.integers(0, vocabulary, rows)
    lists = RaggedIds(np.arange(rows + 1, dtype=np.uint32) * TOPK, rng.integers(0, vocabulary, rows * TOPK).astype(np.uint32))
    return {
        "candidates": RowSpec(Signals(sampled=True), targets, lists),
        "topk": RowSpec(Signals(sampled=True, topk=TOPK), targets),
    }


@torch.inference_mode()
def measure(name: str, model: Any, head: Head, tokens: int, machine: Machine) -> list[Row]:
    """One sequence of `tokens` tokens, every one of them a row."""
    rng = np.random.default_rng(1)
    ids = torch.from_numpy(rng.integers(0, head.rows, (1, tokens))).to(machine.device)

    def forward() -> Tensor:
        return model(input_ids=ids, use_cache=False).last_hidden_state[0]

    states, wanted = forward(), specs(tokens, head.rows)
    taken = {"forward_s": machine.seconds_of(forward), "head_s": machine.seconds_of(lambda: product(head, states))}
    taken |= {f"{signal}_s": machine.seconds_of(lambda spec=spec: readout(states, head, spec)) for signal, spec in wanted.items()}
    peak = machine.peak_bytes(lambda: readout(forward(), head, wanted["topk"]))
    whole_s, flops = taken["forward_s"] + taken["topk_s"], flops_of(model, head, tokens)
    detail = {
        **{what: round(value, 6) for what, value in taken.items()},
        "tokens_per_s": round(tokens / whole_s),
        "head_tflops": round(2e-12 * tokens * head.weight_vh.numel() / taken["head_s"], 2),
        "chunk_rows": chunk_rows_of(head, states),
        "peak_bytes_over_weights": peak and round(peak / sum(one.nbytes for one in model.parameters()), 4),
    }
    return list(_results(f"{name}.{tokens}", taken, flops / whole_s * 1e-12, machine, detail))


def _results(place: str, taken: Mapping[str, float], tflops: float, machine: Machine, detail: Mapping[str, Any]) -> Iterator[Row]:
    for signal, bar in (("candidates", CANDIDATES_BAR), ("topk", TOPK_BAR)):
        over = taken[f"{signal}_s"] / taken["head_s"]
        yield Result(f"G1.{signal}.{place}", "readout's time over its own head product", over, bar, "lower", detail)
    if machine.peak_tflops is None:
        yield Failed(f"G1.mfu.{place}", f"{tflops:.3g} TFLOP/s of a peak that is not known: --peak-tflops")
        return
    bar = MFU_BAR if place.startswith(HAS_MFU_BAR) else 0.0
    what = "share of the device's peak, forward pass, head and top-k"
    yield Result(f"G1.mfu.{place}", what, tflops / machine.peak_tflops, bar, "higher", {"tflops": tflops})


def product(head: Head, states: Tensor) -> None:
    """The head's product alone, in the readout's own chunks into one plane."""
    step = chunk_rows_of(head, states)
    plane = torch.empty(min(step, len(states)), head.rows, device=states.device)
    for part in states.split(step):
        head.logits(part, plane)


def flops_of(model: Any, head: Head, tokens: int) -> float:
    """Of all products; a causal model's attention is half of the square."""
    config = model.config
    body = sum(one.numel() for one in model.parameters()) - head.weight_vh.numel()  # an embedding only looks up
    attention = 2.0 * config.num_hidden_layers * config.num_attention_heads * config.head_dim * tokens * tokens
    return 2.0 * tokens * (body + head.weight_vh.numel()) + attention


# ---------------------------------------------------------------- memory, and the service


@torch.inference_mode()
def memory_row(machine: Machine, dtype: str, rows: int, vocabulary: int) -> Row:
    """P7 by what the device's allocator counts; only on a GPU."""
    head = Head(torch.randn(vocabulary, MEMORY_HIDDEN, device=machine.device, dtype=DTYPES[dtype]), vocabulary)
    states = torch.randn(rows, MEMORY_HIDDEN, device=machine.device, dtype=DTYPES[dtype])
    before = torch.cuda.memory_allocated(machine.device) if machine.is_cuda else 0
    peak = machine.peak_bytes(lambda: readout(states, head, specs(rows, vocabulary)["topk"]))
    result_id = f"P7.readout.cuda.{dtype}"
    if peak is None:
        return Failed(result_id, "measured on a GPU only")
    inputs = head.weight_vh.nbytes + states.nbytes
    what = f"most allocated by a readout of {rows} rows x {vocabulary}, h {MEMORY_HIDDEN}, over its inputs"
    return Result(result_id, what, (peak - before + inputs) / inputs, MEMORY_BAR, "lower", {"peak_bytes": peak})


def service_row(name: str, machine: Machine) -> Row:
    """Tokens a second through gRPC over the same engine in-process: 32 sequences of 512 tokens, k = 64."""
    from benchmarks import bench_scoring
    from benchmarks.scoring import models

    shape = SHAPES[name]
    random = models.Shape(shape.hidden, shape.layers, shape.vocabulary)
    with tempfile.TemporaryDirectory() as folder:
        model = models.save_random_qwen3(Path(folder) / "model", random)
        options = {"device": machine.device, "dtype": machine.dtype}
        run = bench_scoring.grpc_result(f"G1.service.{name}", str(random), model, Path(folder), machine.repeats, **options)
        return asyncio.run(run)


# ---------------------------------------------------------------- all of it


def rows_of(machine: Machine, shapes: Sequence[str], lengths: Sequence[int]) -> Iterator[Row]:
    for name in shapes:
        try:
            model, head = build(SHAPES[name], machine)
        except RuntimeError as error:
            yield _failed(f"G1.{name}", error, machine)
            continue
        for tokens in lengths:
            try:
                yield from measure(name, model, head, tokens, machine)
            except RuntimeError as error:
                yield _failed(f"G1.{name}.{tokens}", error, machine)
        del model, head


def further_rows(machine: Machine, options: argparse.Namespace) -> Iterator[Row]:
    size = (MEMORY_ROWS, SHAPES["8b"].vocabulary) if machine.is_cuda else (SMALL_ROWS, SHAPES["tiny"].vocabulary)
    for dtype in ("f32", "bf16"):
        try:
            yield memory_row(machine, dtype, *size)
        except RuntimeError as error:
            yield _failed(f"P7.readout.cuda.{dtype}", error, machine)
    if options.service:
        try:
            yield service_row(options.shapes[0], machine)
        except (RuntimeError, ImportError, OSError) as error:
            yield _failed(f"G1.service.{options.shapes[0]}", error, machine)


def _failed(place: str, error: Exception, machine: Machine) -> Failed:
    """Most often memory that ran out, which is given back for what comes next."""
    if machine.is_cuda:
        torch.cuda.empty_cache()
    return Failed(place, f"{type(error).__name__}: {str(error).splitlines()[0][:160]}")


def known_peak_tflops(device: str, dtype: str) -> float | None:
    """By the device's name, of 16-bit types; otherwise it has to be told."""
    if not device.startswith("cuda") or dtype == "f32":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for part, peak in PEAK_TFLOPS.items() if part in name), None)


def line_of(row: Row) -> str:
    if isinstance(row, Failed):
        return f"{row.id:32} {'-':>10}  {row.error}"
    sign = "<=" if row.better == "lower" else ">="
    bar = f"{sign} {row.bar:<5g} {'ok' if row.ok else 'missed'}" if row.bar else "no bar"
    told = " ".join(f"{name}={value}" for name, value in row.detail.items() if not isinstance(value, dict | list))
    return f"{row.id:32} {row.value:10.4g}  {bar:16} {told}"


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cpu, cuda, cuda:1, ... (default: cuda)")
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=["1b", "4b", "8b"])
    parser.add_argument("--tokens", nargs="+", type=int, default=[1024, 2048, 4096, 8192])
    parser.add_argument("--dtype", choices=DTYPES, default="bf16")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--peak-tflops", type=float, help="dense peak of the device in this dtype, where its name does not tell")
    parser.add_argument("--service", action="store_true", help="the service over in-process too, with the first of the shapes")
    parser.add_argument("--out", type=Path, default=Path("gpu_scoring.json"), help="where the figures go (default: %(default)s)")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    peak = options.peak_tflops or known_peak_tflops(options.device, options.dtype)
    machine = Machine(options.device, options.dtype, options.repeats, peak)
    device = torch.cuda.get_device_name(options.device) if machine.is_cuda else platform.processor() or "cpu"
    print(f"scoring on {device}, {options.dtype}, torch {torch.__version__}, CUDA {torch.version.cuda}, k = {TOPK}")
    found: list[dict[str, Any]] = []
    for rows in (rows_of(machine, options.shapes, options.tokens), further_rows(machine, options)):
        for row in rows:
            print(line_of(row), flush=True)
            found.append(row.as_json() | {"device": device, "dtype": options.dtype, "torch": torch.__version__})
            options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")  # what is measured stays, whatever comes


if __name__ == "__main__":
    main()
