"""`python -m benchmarks.bench_vllm_ways`, in .venv-vllm: the ways to scores that vLLM offers, each tried on its CPU build.

Each way has a process of its own, one thread, the same random Qwen3 and the same fresh sequences. Beside tokens a second it is
measured how many bytes a row with 64 ids costs when it leaves the workers, how much memory the scoring took at most above what
was held before, how far sampled tokens are from float64, and what a longer sequence costs behind a prefix that was scored. A way
that fails is written down with the message.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.on_vllm.items import SEQUENCES, SMALL, TOKENS, TOPK
from benchmarks.on_vllm.ways.which import WAYS
from benchmarks.results import RESULTS, where_and_when
from benchmarks.scoring.models import save_random_qwen3

ROOT = Path(__file__).parents[1]
WAY_TIMEOUT_S = 600.0
COLUMNS = {
    "tokens_per_s": "tokens/s",
    "tokens_per_cpu_s": "tokens/CPU s",
    "bytes_per_token": "bytes a row",
    "peak_mib": "peak MiB",
    "error_nats": "from float64",
    "reuse": "behind a scored prefix",
}


def tried(way: str, folder: Path, sequences: int) -> dict[str, Any]:
    """What its process says; its last line on stdout is the JSON, whatever vLLM prints before."""
    command = [sys.executable, "-m", "benchmarks.on_vllm.ways", way, str(folder), str(sequences)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=WAY_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"not through after {WAY_TIMEOUT_S:g} s"}
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        return {"failed": f"exit code {done.returncode}: {' '.join(done.stderr.strip().splitlines()[-1:])}"}
    return json.loads(lines[-1])


def show(found: Mapping[str, Mapping[str, Any]]) -> None:
    table = Table(title=f"ways to scores, {SMALL}")
    for name in ("way", *COLUMNS.values()):
        table.add_column(name)
    console = Console()
    for way, told in found.items():
        values = [told.get(name, "") for name in COLUMNS]
        table.add_row(way, *(f"{value:.4g}" if isinstance(value, float) else str(value) for value in values))
    console.print(table)
    for way, told in found.items():
        if further := told.get("failed") or told.get("notes"):
            console.print(f"• {way}: {further}", markup=False, highlight=False, soft_wrap=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS), help="default: all of them")
    parser.add_argument("--sequences", type=int, default=SEQUENCES, help=f"of {TOKENS} tokens in a turn (default: {SEQUENCES})")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="preceptor-ways-") as folder:
        model = save_random_qwen3(Path(folder) / "model", SMALL)
        found = {way: tried(way, model, options.sequences) for way in options.ways}
    show(found)
    asked = {"items": f"{options.sequences} x {TOKENS} tokens, k = {TOPK}", "model": str(SMALL), "load": round(load, 1)}
    told = {**asked, **where_and_when(), "ways": found}
    (RESULTS / "vllm_ways.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
