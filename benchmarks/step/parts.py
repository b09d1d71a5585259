"""Parts of a bench that are measured once: stopped and called again, it goes on where it was.

They are kept for one commit with one set of options. A checkout with changes keeps nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Part = dict[str, list[float]]


@dataclass(frozen=True, slots=True)
class Parts:
    """`folder` is None where nothing is kept."""

    folder: Path | None

    @classmethod
    def of(cls, cache: Path, commit: str, options: str) -> Parts:
        """Those of a commit with these options."""
        lasting = commit != "unknown" and not commit.endswith("-dirty")
        return cls(cache / f"{commit}-{options}" if lasting else None)

    def once(self, name: str, measure: Callable[[], Part]) -> Part:
        """What was measured under this name, or is now."""
        path = self.folder / f"{name}.json" if self.folder else None
        if path and path.exists():
            print(f"{name}: measured before", flush=True)
            return json.loads(path.read_text(encoding="utf-8"))
        found = measure()
        print(f"{name}: {', '.join(f'{one:.1f} s' for one in found['seconds'])}", flush=True)
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(found), encoding="utf-8")
        return found
