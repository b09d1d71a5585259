"""Writes constraints/*.txt: the exact versions in the running environment, for each way to install Preceptor.

    python scripts/freeze_constraints.py

Run it in an environment in which `make test` has passed. A file holds what its extras need, directly or not, and nothing
else. Local version parts (`+cpu`) are dropped: `torch==2.13.0` then admits the CPU build and the CUDA build alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
SETS: dict[str, tuple[str, ...]] = {
    "client": (),
    "teacher": ("teacher",),
    "rollout": ("rollout",),
    "student": ("student",),
    "services": ("teacher", "rollout", "student"),
    "dev": ("local", "dev"),
}
"""File -> the extras it covers. A new kind of installation is one line here."""


def requirements(name: str, extras: Iterable[str]) -> Iterator[Requirement]:
    """What a distribution with these extras requires on this platform."""
    for text in metadata.requires(name) or []:
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield requirement


def closure(extras: Iterable[str]) -> dict[str, str]:
    """Name -> version of everything that `preceptor[extras]` brings."""
    found: dict[str, str] = {}
    seen: set[tuple[str, tuple[str, ...]]] = set()
    waiting = [("preceptor", tuple(extras))]
    while waiting:
        name, wanted = waiting.pop()
        for requirement in requirements(name, wanted):
            key = (canonicalize_name(requirement.name), tuple(sorted(requirement.extras)))
            if key not in seen:
                seen.add(key)
                found[key[0]] = metadata.version(key[0]).partition("+")[0]
                waiting.append(key)
    found.pop("preceptor", None)
    return found


def main() -> None:
    for name, extras in SETS.items():
        target = f"preceptor[{','.join(extras)}]" if extras else "preceptor"
        lines = [f"# Versions that passed the tests together. pip install '{target}' -c constraints/{name}.txt"]
        lines += [f"{part}=={version}" for part, version in sorted(closure(extras).items())]
        (ROOT / "constraints" / f"{name}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        print(f"constraints/{name}.txt: {len(lines) - 1} parts")


if __name__ == "__main__":
    main()
