"""`python -m benchmarks.bench_vllm`, in .venv-vllm: the vllm engine against stock vLLM, and its doors, on vLLM's CPU build.

P2 holds the service, on the vllm and on the hf engine, against stock vLLM's own server on the same weights, client included. P1
holds gRPC and the queue against the same engine called in this process. P4 draws and scores rollouts of SmolLM2 at once, on vLLM
both. P5 counts the tokens computed for a group of growing rollouts. N1 is how far scores of one token are apart.

`--parts` names some of them; each writes what it found into `benchmarks/results/vllm.json` when it is through, and leaves what
is there of the others.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from benchmarks.on_vllm.items import CORES, SEQUENCES
from benchmarks.on_vllm.parts import PARTS
from benchmarks.results import add_results

TOLD = (
    *("tokens_per_s", "ratios", "cpu_s", "engine_s", "bytes_per_token", "stock_settings"),
    *("median_s", "makespan_s", "computed", "p99"),
)


def options_of() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS), help="default: all of them")
    parser.add_argument("--repeats", type=int, default=3, help="turns of each side of P1.grpc and P2a (default: 3)")
    parser.add_argument("--sequences", type=int, default=SEQUENCES, help=f"of 512 tokens in a turn (default: {SEQUENCES})")
    parser.add_argument("--threads", type=int, default=CORES, help=f"of each side of P2 (default: {CORES}, as stock by itself)")
    parser.add_argument("--rollouts", type=int, default=32, help="rollouts of P4 (default: 32)")
    parser.add_argument("--rounds", type=int, default=10, help="batch orders and chunkings of N1 (default: 10)")
    return parser.parse_args()


def main() -> None:
    options = options_of()
    for part in options.parts:
        load, began_s = os.getloadavg()[0], time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="preceptor-vllm-") as folder:
            rows = asyncio.run(PARTS[part](options, Path(folder)))
        around = {"load": [round(load, 1), round(os.getloadavg()[0], 1)], "took_s": round(time.perf_counter() - began_s)}
        told = [f"{row.id}: { {key: row.detail[key] for key in TOLD if key in row.detail} }" for row in rows]
        add_results("vllm", [replace(row, detail={**row.detail, **around}) for row in rows], [*told, f"{part}: {around}"])


if __name__ == "__main__":
    main()
