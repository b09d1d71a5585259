"""`python -m benchmarks.scoring.memory WAY SIGNAL ROWS VOCABULARY HIDDEN DTYPE`: the peak memory of one readout.

It is meant for a fresh process: the peak of its resident memory, less what it held when everything was imported, over the bytes
of the readout's own inputs. One line of JSON.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[2]


def peak_in_fresh_process(way: str, signal: str, rows: int, vocabulary: int, hidden: int, dtype: str) -> dict[str, Any]:
    """What the module prints."""
    arguments = [way, signal, *(str(size) for size in (rows, vocabulary, hidden)), dtype]
    command = [sys.executable, "-m", "benchmarks.scoring.memory", *arguments]
    done = subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout)


def peak_bytes() -> int:
    """Highest resident memory of this process so far.

    Not `ru_maxrss` on Linux: there it begins with what the parent held when it started this process.
    """
    if sys.platform != "linux":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:"))


def measure(way: str, signal: str, rows: int, vocabulary: int, hidden: int, dtype: str) -> dict[str, Any]:
    import torch

    from benchmarks.scoring.readouts import WAYS, make_case

    torch.set_num_threads(1)
    warm = make_case(4, 512, 16, torch.float32, signal)
    WAYS[way](warm)  # what the first call of a library takes for itself belongs to the imports
    before = peak_bytes()
    case = make_case(rows, vocabulary, hidden, getattr(torch, dtype), signal)
    kept = WAYS[way](case)
    used = peak_bytes() - before
    assert kept is not None
    return {"way": way, "inputs_bytes": case.input_bytes, "peak_bytes": used, "over_inputs": used / case.input_bytes}


def main(arguments: list[str]) -> None:
    way, signal, rows, vocabulary, hidden, dtype = arguments
    print(json.dumps(measure(way, signal, int(rows), int(vocabulary), int(hidden), dtype)))


if __name__ == "__main__":
    main(sys.argv[1:])
