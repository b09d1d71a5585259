"""Whether parts fit the devices of this machine, as far as that can be seen without loading anything."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from preceptor.planning.memory import Part
from preceptor.planning.ranges import NOTHING, Range

QUERY_S = 10.0
MIB = 1 << 20
MEMORY_INFO = Path("/proc/meminfo")


@dataclass(frozen=True, slots=True)
class Fit:
    """What one device is asked for, and what it has; None: that cannot be seen from here."""

    device: str
    needed_bytes: Range
    free_bytes: int | None

    @property
    def verdict(self) -> str:
        """`fits`, `may fit`, `does not fit` or `unknown`."""
        if self.free_bytes is None:
            return "unknown"
        if self.needed_bytes.high <= self.free_bytes:
            return "fits"
        return "may fit" if self.needed_bytes.low <= self.free_bytes else "does not fit"


def fits_of(parts: Sequence[Part], free: Callable[[str], int | None] | None = None) -> list[Fit]:
    """One for each device, in the order in which they are asked for."""
    find = free or free_bytes
    needed: dict[str, Range] = {}
    for part in parts:
        needed[part.device] = needed.get(part.device, NOTHING) + part.memory_bytes
    return [Fit(device, taken, find(device)) for device, taken in needed.items()]


def free_bytes(device: str) -> int | None:
    """Free memory of `cpu`, `cuda` or `cuda:N`."""
    kind, _, number = device.partition(":")
    if kind == "cpu":
        return _free_memory()
    return _free_on_gpu(int(number or 0)) if kind == "cuda" else None


def _free_memory() -> int | None:
    if not MEMORY_INFO.exists():
        return None
    found = re.search(r"^MemAvailable:\s+(\d+) kB", MEMORY_INFO.read_text(encoding="ascii"), re.MULTILINE)
    return int(found[1]) << 10 if found else None


def _free_on_gpu(number: int) -> int | None:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    command = [tool, "--query-gpu=memory.free", "--format=csv,noheader,nounits", f"--id={number}"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=QUERY_S, check=True).stdout
    except (subprocess.SubprocessError, OSError):
        return None
    return int(said.split()[0]) * MIB if said.split() and said.split()[0].isdigit() else None
