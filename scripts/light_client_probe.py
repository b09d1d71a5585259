"""Imports every public module of the light client with the heavy packages blocked, and prints what it saw as JSON.

Runs in any environment: in the development one it proves that an installed torch is not touched, in a bare one that
nothing else is missing. Every attempt to import a blocked package is recorded, even one that somebody catches.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
import sys
from importlib.machinery import ModuleSpec

LIGHT = ("preceptor", "preceptor_proto")
TRAINERS = ".integrations."  # modules that need torch and the trainer
BLOCKED = ("torch", "transformers", "vllm", "fastapi", "uvicorn", "starlette", "peft", "safetensors")


class Blocker:
    """An import finder in front of all others that refuses the blocked packages."""

    def __init__(self) -> None:
        self.attempts: list[str] = []

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name.partition(".")[0] in BLOCKED:
            self.attempts.append(name)
            raise ImportError(f"{name} is blocked: the light client must not import it", name=name)
        return None


def public_modules(package: str) -> list[str]:
    """The package and all its modules, without those that run something when imported, or are imported by trainers alone."""
    root = importlib.import_module(package)
    found = pkgutil.walk_packages(root.__path__, f"{package}.")
    return [package, *(one.name for one in found if not one.name.endswith("__main__") and TRAINERS not in one.name)]


def main() -> None:
    blocker = Blocker()
    sys.meta_path.insert(0, blocker)
    modules = [name for package in LIGHT for name in public_modules(package)]
    for name in modules:
        importlib.import_module(name)
    print(json.dumps({"modules": modules, "blocked": BLOCKED, "attempts": blocker.attempts}))
    if blocker.attempts:
        sys.exit(f"imported although blocked: {', '.join(blocker.attempts)}")


if __name__ == "__main__":
    main()
