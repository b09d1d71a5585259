"""`python -m benchmarks.bench_loss [--rows 8192] [--parts ...]`: memory, time and parity of the loss (P7).

Memory is that of forward and backward in a fresh process, over the inputs and the gradients of states and head, for each form of
what a teacher gives. Time stands against the plain loss over all logits at a size where that fits; the chunked way computes the
head's product a second time, which is four matrix products instead of three. Parity is with TRL's generalised JSD,
and with Liger's fused linear JSD from hidden states and heads.

A part is written as soon as it is measured; parts that are not asked for keep their figures, each with its date. What does not
fit into memory or into `--part-timeout-s` is named and left as it was.
"""

from __future__ import annotations

import argparse
import subprocess
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from statistics import median
from typing import Any

import psutil
import torch

from benchmarks.loss.cases import own_bytes_of
from benchmarks.loss.memory import in_fresh_process
from benchmarks.results import Result, add_results

VOCABULARY, HIDDEN = 151_936, 1024
SMALL = (1024, 32_768, 576)  # rows, vocabulary, hidden: the plain way holds about ten planes of 128 MiB
REPEATS = 3
RECOMPUTED = 4 / 3
BAR = 1.25
HEADROOM = 1.5  # of the memory of a part's own tensors, free before it starts
FORMS = {
    "lists": ("P7.loss", "top-k, candidates and tail"),
    "states": ("P7.loss.states", "teacher's hidden states and head"),
    "rows": ("P7.loss.rows", "whole rows of a teacher"),
}
PARTS = (*FORMS, "time", "trl", "liger")


def memory(form: str, rows: int, timeout_s: float) -> Iterator[Result]:
    name, what = FORMS[form]
    needed, free = HEADROOM * own_bytes_of(form, rows, VOCABULARY, HIDDEN), psutil.virtual_memory().available
    if needed > free:
        print(f"{name} was not measured: it needs {needed / 2**30:.1f} GiB, {free / 2**30:.1f} GiB are free")
        return
    try:
        found = in_fresh_process("chunked", form, rows, VOCABULARY, HIDDEN, timeout_s)
    except subprocess.TimeoutExpired:
        print(f"{name} was not measured: it took more than {timeout_s:g} s")
        return
    detail = found | {"vocabulary": VOCABULARY, "hidden": HIDDEN, "threads": torch.get_num_threads()}
    said = f"peak memory of loss and gradients over its own: {what}, {rows} rows"
    yield Result(name, said, found["over_own"], BAR, "lower", detail)


def speed() -> Iterator[Result]:
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
    what = "time of loss and gradients over that of all logits at once"
    yield Result("P7.loss.time", what, ratio, RECOMPUTED, "lower", detail)


def parity_with_trl() -> Iterator[Result]:
    from benchmarks.loss.trl_parity import PINNED, worst_difference

    said = "largest difference from TRL's divergences, loss of a row or gradient"
    return _parity("P7.loss.trl", said, PINNED[0], worst_difference)


def parity_with_liger() -> Iterator[Result]:
    from benchmarks.loss.liger_parity import PINNED, worst_difference

    said = "largest difference from Liger's fused linear JSD, mean loss or gradient by states and head"
    return _parity("P7.loss.liger", said, PINNED[0], worst_difference)


def _parity(name: str, said: str, package: str, worst_difference: Callable[[], Mapping[Any, float]]) -> Iterator[Result]:
    try:
        found = worst_difference()
    except subprocess.CalledProcessError as failed:
        print(f"the environment of {package} cannot be used here, so {name} was not measured: {failed}")
        return
    detail = {"by_beta": {str(beta): value for beta, value in found.items()}, "against": package}
    yield Result(name, said, max(found.values()), 1e-5, "lower", detail)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=8192, help="rows of the memory figures; the bar is for 8192")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--part-timeout-s", type=float, default=3600.0, help="most that a memory figure may take (default: 3600)")
    asked = parser.parse_args()
    measures: dict[str, Callable[[], Iterator[Result]]] = {
        **{form: partial(memory, form, asked.rows, asked.part_timeout_s) for form in FORMS},
        "time": speed, "trl": parity_with_trl, "liger": parity_with_liger,
    }  # fmt: skip
    notes = [
        "memory: fresh process, peak resident memory less that after imports and a tiny first call",
        "where we lose: time, wherever all logits fit; the head's product is computed again in the backward pass",
    ]
    for part in asked.parts:
        add_results("loss", list(measures[part]()), notes)


if __name__ == "__main__":
    main()
