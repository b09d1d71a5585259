"""`python -m benchmarks.loss.memory WAY FORM ROWS VOCABULARY HIDDEN`: the peak memory of one loss and its gradients.

It is meant for a fresh process: the peak of its resident memory, less what it held when everything was imported, over the bytes
of the loss's inputs and of the gradients of states and head. One line of JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.scoring.memory import peak_bytes

REPOSITORY = Path(__file__).parents[2]


def in_fresh_process(
    way: str, form: str, rows: int, vocabulary: int, hidden: int, timeout_s: float | None = None
) -> dict[str, Any]:
    """What the module prints; `TimeoutExpired` where it takes longer."""
    command = [sys.executable, "-m", "benchmarks.loss.memory", way, form, *(str(size) for size in (rows, vocabulary, hidden))]
    done = subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE, check=True, text=True, timeout=timeout_s)
    return json.loads(done.stdout)


def measure(way: str, form: str, rows: int, vocabulary: int, hidden: int) -> dict[str, Any]:
    from benchmarks.loss.cases import WAYS, make_case

    WAYS[way](make_case(form, 4, 512, 16))  # what the first call of a library takes for itself belongs to the imports
    before = peak_bytes()
    case = make_case(form, rows, vocabulary, hidden)
    start = time.perf_counter()
    loss = WAYS[way](case)
    seconds = time.perf_counter() - start
    used = peak_bytes() - before
    figures = {"peak_bytes": used, "own_bytes": case.own_bytes, "over_own": used / case.own_bytes, "seconds": seconds}
    return {"way": way, "form": form, "rows": rows, "loss": loss, **figures}


def main(arguments: list[str]) -> None:
    way, form, *sizes = arguments
    print(json.dumps(measure(way, form, *map(int, sizes))))


if __name__ == "__main__":
    main(sys.argv[1:])
