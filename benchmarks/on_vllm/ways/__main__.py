"""`python -m benchmarks.on_vllm.ways WAY FOLDER SEQUENCES`: tries one way on a model folder; one line of JSON."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

from benchmarks.on_vllm.ways.which import WAYS


def main(way: str, folder: str, sequences: str) -> None:
    try:
        told = asdict(WAYS[way](Path(folder), int(sequences)))
    except Exception as error:  # what a way fails with is what is to be written down
        told = {"failed": f"{type(error).__name__}: {error}"}
        if os.environ.get("WAYS_TRACEBACK"):
            raise
    print(json.dumps(told), flush=True)
    os._exit(0)  # vLLM may abort while an interpreter ends


if __name__ == "__main__":
    main(*sys.argv[1:])
