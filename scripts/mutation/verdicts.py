"""`Verdicts`: what became of each mutant, kept in a file, so that a run that was stopped goes on where it was."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

SURVIVED = "survived {tests} tests"
UNREACHED = "survived: no test reaches the line"
LATE = "took too long"


class Verdicts:
    """A verdict holds for one content of the file; that a test noticed it holds for more tests too, that none did does not."""

    def __init__(self, path: Path, tests_digest: str) -> None:
        self._path, self._tests = path, tests_digest
        self._files: dict[str, dict[str, dict[str, str]]] = json.loads(path.read_text()) if path.exists() else {}
        """File -> `content`, `verdicts`, and `tests` (under which tests each mutant was tried last)."""

    def settled(self, file: Path, what: str) -> bool:
        """Whether this mutant need not be tried again."""
        found = self._of(file).get(what)
        return found is not None and (not found.startswith("survived") or self._files[file.stem]["tests"][what] == self._tests)

    def put(self, file: Path, what: str, verdict: str) -> None:
        """Writes it down at once."""
        self._of(file)[what] = verdict
        self._files[file.stem]["tests"][what] = self._tests
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text(json.dumps(self._files, indent=1))

    def counts(self, file: Path) -> dict[str, int]:
        """Verdict -> how many mutants of the file."""
        return dict(Counter(verdict.split(" ")[0].strip(":") for verdict in self._of(file).values()))

    def survivors(self, files: list[Path]) -> Iterator[tuple[str, str, str]]:
        """(file, mutant, verdict) of those that nothing noticed."""
        for file in files:
            yield from ((file.name, what, verdict) for what, verdict in self._of(file).items() if verdict.startswith("survived"))

    def _of(self, file: Path) -> dict[str, str]:
        content = digest([file])
        found = self._files.get(file.stem)
        if found is None or found["content"]["digest"] != content:
            found = self._files[file.stem] = {"content": {"digest": content}, "verdicts": {}, "tests": {}}
        return found["verdicts"]


def digest(files: list[Path]) -> str:
    """Of what they hold."""
    whole = hashlib.sha256()
    for file in files:
        whole.update(file.read_bytes())
    return whole.hexdigest()[:16]
