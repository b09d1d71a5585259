"""`python -m benchmarks.side_by_side`: the engines' figures beside each other, into docs/performance.md, from what was measured.

It reads `benchmarks/results/*.json`, so that `make bench-scoring`, `make bench-streaming`, `make bench-vllm` and
`python -m benchmarks.noise` may each be run when the machine is quiet; every figure has its own date and load.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.results import RESULTS

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
FILES = ("scoring", "streaming", "noise", "vllm")
BEGIN, END = "<!-- side by side: written by python -m benchmarks.side_by_side -->", "<!-- side by side: end -->"
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Line:
    """One question, and under which ids its answers stand."""

    what: str
    hf: str
    vllm: str
    asked: str = ""  # key of `tokens_per_s` of the vllm row, beside the engine's name


LINES = (
    Line("P2a.topk: tokens/s over stock, random Qwen3, h 64, 2 layers, 49,152 ids; top-64", "P2a.topk", "P2a.topk.vllm", "topk"),
    Line(
        "P2a.candidates: 64 ids of the caller's a row over stock's top-64", "P2a.candidates", "P2a.candidates.vllm", "candidates"
    ),
    Line("P2a.bytes: bytes a token over stock's", "P2a.bytes", "P2a.bytes.vllm"),
    Line("P2b: tokens/s over stock, SmolLM2-135M, top-64", "P2b", "P2b.vllm", "topk"),
    Line("P1.grpc: tokens/s over in-process, random Qwen3, h 256", "P1.grpc", "P1.grpc.vllm"),
    Line("P1.redis: the same through the queue, SmolLM2", "P1.redis", "P1.redis.vllm"),
    Line("P4.latency: wait after the last token over scoring afterwards, SmolLM2", "P4.latency", "P4.latency.vllm"),
    Line("P4.makespan: streaming over sending whole", "P4.makespan", "P4.makespan.vllm"),
    Line("P5: tokens computed over unique ones (hf: SmolLM2)", "P5", "P5.vllm"),
    Line("N1: batch orders, nats", "N1.orders.random", "N1.orders.vllm"),
    Line("N1: prefix sharing", "N1.sharing.random", "N1.sharing.vllm"),
    Line("N1: chunkings of a growing log", "N1.chunkings.random", "N1.chunkings.vllm"),
    Line("N1: gRPC against the engine alone", "N1.doors.grpc", "N1.doors.grpc.vllm"),
    Line("N1: the queue against the engine alone", "N1.doors.redis", "N1.doors.redis.vllm"),
    Line("N1: sampled and top-8 against float64", "N1.float64.random", "N1.float64.vllm"),
)


def figures() -> dict[str, Row]:
    """Every row that was ever written, by its id."""
    paths = (RESULTS / f"{name}.json" for name in FILES)
    return {row["id"]: row for path in paths if path.exists() for row in json.loads(path.read_text(encoding="utf-8"))}


def table(found: Mapping[str, Row]) -> str:
    """Missed bars in bold; a figure that there is not is a dash."""
    header = ["| what | hf | vllm | stock vLLM | bar |", "|---|---|---|---|---|"]
    return "\n".join([*header, *(_line(line, found) for line in LINES)])


def _line(line: Line, found: Mapping[str, Row]) -> str:
    rows = [found.get(line.hf), found.get(line.vllm)]
    speeds: Mapping[str, int] = (rows[1] or {}).get("detail", {}).get("tokens_per_s", {}) if line.asked else {}
    sides = [_figure(row, speeds.get(f"{name} {line.asked}")) for name, row in zip(("hf", "vllm"), rows, strict=True)]
    stock = f"{speeds['stock']:,} tokens/s" if "stock" in speeds else ""
    bar = next((f"{'>=' if row['better'] == 'higher' else '<='} {row['bar']:g}" for row in rows if row), "")
    return f"| {line.what} | {' | '.join(sides)} | {stock} | {bar} |"


def _figure(row: Row | None, speed: int | None) -> str:
    if row is None:
        return "-"
    value = f"{row['value']:.3g}"
    told = [_when(row["detail"])] if speed is None else [f"{speed:,} tokens/s", _when(row["detail"])]
    return f"{value if row['ok'] else f'**{value}**'} ({'; '.join(told)})"


def _when(detail: Mapping[str, Any]) -> str:
    load = detail.get("load")
    return detail["date"] + (f", load {load[0]:g} to {load[1]:g}" if load else "")


def main() -> None:
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    if not after:
        raise SystemExit(f"{PAGE} has no place for it: {BEGIN} ... {END}")
    PAGE.write_text(f"{before}{BEGIN}\n\n{table(figures())}\n\n{END}{after}", encoding="utf-8")
    print(table(figures()))


if __name__ == "__main__":
    main()
