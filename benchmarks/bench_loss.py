"""`python -m benchmarks.bench_loss [--rows 8192]`: memory, time and parity of the loss (P7).

Memory is that of forward and backward in a fresh process, over the inputs and the gradients of states and head, for each form of
what a teacher gives. Time stands against the plain loss over all logits at a size where that fits; the chunked way computes the
head's product a second time, which is four matrix products instead of three. Parity is with TRL's generalised JSD.
"""

from __future__ import annotations

import argparse
import subprocess
from collections.abc import Iterator
from statistics import median
from typing import Any

import torch

from benchmarks.loss.memory import in_fresh_process
from benchmarks.results import Result, write_results

VOCABULARY, HIDDEN = 151_936, 1024
SMALL = (1024, 32_768, 576)  # rows, vocabulary, hidden: the plain way holds about ten planes of 128 MiB
WIDE_ROWS = 1024  # whole rows of a teacher are 0.6 MB each
REPEATS = 3
RECOMPUTED = 4 / 3


def memory(rows: int) -> Iterator[Result]:
    whats = {
        "lists": "top-k, candidates and tail",
        "states": "teacher's hidden states and head",
        "rows": "whole rows of a teacher",
    }
    for form, what in whats.items():
        count = min(rows, WIDE_ROWS) if form == "rows" else rows
        found = in_fresh_process("chunked", form, count, VOCABULARY, HIDDEN)
        detail = found | {"vocabulary": VOCABULARY, "hidden": HIDDEN, "threads": torch.get_num_threads()}
        name = "P7.loss" if form == "lists" else f"P7.loss.{form}"
        yield Result(
            name,
            f"peak memory of loss and gradients over its own: {what}, {count} rows",
            found["over_own"],
            1.25,
            "lower",
            detail,
        )


def speed() -> Result:
    """Alternating, so that a busy machine is busy for both."""
    seconds: dict[str, list[float]] = {"chunked": [], "plain": []}
    last: dict[str, dict[str, Any]] = {}
    for _ in range(REPEATS):
        for way, times in seconds.items():
            last[way] = in_fresh_process(way, "lists", *SMALL)
            times.append(last[way]["seconds"])
    ratio = median(seconds["chunked"]) / median(seconds["plain"])
    peaks = {f"{way}_peak_bytes": one["peak_bytes"] for way, one in last.items()}
    detail = {"seconds": seconds, "rows_vocabulary_hidden": SMALL, "threads": torch.get_num_threads(), **peaks}
    return Result(
        "P7.loss.time", "time of loss and gradients over that of all logits at once", ratio, RECOMPUTED, "lower", detail
    )


def parity() -> Iterator[Result]:
    from benchmarks.loss.trl_parity import PINNED, worst_difference

    try:
        found = worst_difference()
    except subprocess.CalledProcessError as failed:
        print(f"TRL's environment cannot be used here, so parity was not measured: {failed}")
        return
    detail = {"by_beta": {str(beta): value for beta, value in found.items()}, "trl": PINNED[0]}
    what = "largest difference from TRL's divergences, loss of a row or gradient"
    yield Result("P7.loss.trl", what, max(found.values()), 1e-5, "lower", detail)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=8192, help="rows of the memory figures; the bar is for 8192")
    rows = parser.parse_args().rows
    notes = [
        "memory: fresh process, peak resident memory less that after imports and a tiny first call",
        "where we lose: time, wherever all logits fit; the head's product is computed again in the backward pass",
    ]
    write_results("loss", [*parity(), speed(), *memory(rows)], notes)


if __name__ == "__main__":
    main()
