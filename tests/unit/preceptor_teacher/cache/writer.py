"""A process that writes entries and says after each commit which ones: python -m ... FOLDER FIRST COUNT."""

from __future__ import annotations

import random
import sys
from pathlib import Path

from preceptor_teacher.cache.disk import DiskTier

MIB = 1 << 20
BATCH = 4


def key(number: int) -> bytes:
    return number.to_bytes(32, "big")


def value(number: int, size: int = 5000) -> bytes:
    return random.Random(number).randbytes(size)


def main(folder: str, first: str, count: str) -> None:
    tier = DiskTier.open(Path(folder), 4 * MIB)
    for n in range(int(first), int(first) + int(count), BATCH):
        tier.put_many({key(m): value(m) for m in range(n, n + BATCH)})
        print(n, flush=True)
    tier.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
