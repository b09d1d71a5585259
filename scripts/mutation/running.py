"""`MutationRun`: a pytest plugin that runs the collected tests once, notes which lines each of them reaches, and tries mutants.

Each mutant is a fork of the session: the functions of one file get the changed code in place, and only the tests that reach the
changed line run, quick ones first, up to the first that fails. Nothing is imported or collected again, so a mutant costs what its
tests cost; the files on disk stay as they are.
"""

from __future__ import annotations

import ast
import gc
import os
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import Any

import pytest
from _pytest.runner import runtestprotocol

from scripts.mutation.changes import Mutant, mutants
from scripts.mutation.verdicts import LATE, SURVIVED, UNREACHED, Verdicts

LIMIT_S = 120
LATE_STATUS = 255

Key = tuple[str, int]  # qualified name, first line


class MutationRun:
    """Give it to `pytest.main` among the plugins."""

    def __init__(self, files: Sequence[Path], verdicts: Verdicts, jobs: int) -> None:
        self._files, self._verdicts, self._jobs = files, verdicts, jobs
        self._reached: dict[tuple[str, int], set[int]] = {}  # (file, line) -> places in the list of tests
        self._seconds: list[float] = []

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """In place of pytest's own loop."""
        for place, item in enumerate(session.items):
            start = time.perf_counter()
            with _Reached({str(path) for path in self._files}) as reached:
                reports = runtestprotocol(item, log=False, nextitem=None)
            if any(one.failed for one in reports):
                raise pytest.UsageError(f"{item.nodeid} fails without any change")
            self._seconds.append(time.perf_counter() - start)
            for line in reached.lines:
                self._reached.setdefault(line, set()).add(place)
        print(f"{len(session.items)} tests in {sum(self._seconds):.0f} s", flush=True)
        waiting: dict[int, tuple[Path, Mutant, Sequence[int]]] = {}
        for path, mutant in self._todo():
            order = self._tests(path, mutant)
            if not order:
                self._verdicts.put(path, mutant.what, UNREACHED)
                continue
            if len(waiting) >= self._jobs:
                self._collect(session, waiting)
            waiting[_start(session.items, order, path, mutant)] = (path, mutant, order)
        while waiting:
            self._collect(session, waiting)
        return True

    def _todo(self) -> Iterator[tuple[Path, Mutant]]:
        for path in self._files:
            for mutant in mutants(ast.parse(path.read_text(encoding="utf-8"))):
                if not self._verdicts.settled(path, mutant.what):
                    yield path, mutant
            print(f"{path.stem}: {self._verdicts.counts(path)}", flush=True)

    def _tests(self, path: Path, mutant: Mutant) -> list[int]:
        """Places of the tests that reach the line, quick ones first."""
        return sorted(self._reached.get((str(path), mutant.line), ()), key=lambda place: self._seconds[place])

    def _collect(self, session: pytest.Session, waiting: dict[int, tuple[Path, Mutant, Sequence[int]]]) -> None:
        process, status = os.wait()
        path, mutant, order = waiting.pop(process)
        self._verdicts.put(path, mutant.what, _verdict(status, [session.items[place].nodeid for place in order]))


def _verdict(status: int, names: Sequence[str]) -> str:
    """A child says by its status whether it survived (0), was too slow, or that a test noticed."""
    if os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == LATE_STATUS:
        return LATE
    return SURVIVED.format(tests=len(names)) if os.WEXITSTATUS(status) == 0 else "noticed"


def _start(items: Sequence[pytest.Item], order: Iterable[int], path: Path, mutant: Mutant) -> int:
    """The process that tries a mutant."""
    sys.stdout.flush()
    process = os.fork()
    if process:
        return process
    signal.alarm(LIMIT_S)
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 1)
    os.dup2(sink, 2)
    status = 1
    try:
        patch(path, mutant.tree)
        status = int(any(one.failed for place in order for one in runtestprotocol(items[place], log=False, nextitem=None)))
    finally:
        os._exit(status)


def patch(path: Path, tree: ast.Module) -> None:
    """Gives every living function of the file the code that the changed tree has for it."""
    changed = {_key(code): code for code in _codes(compile(ast.fix_missing_locations(tree), str(path), "exec"))}
    for function in gc.get_objects():
        if isinstance(function, FunctionType) and function.__code__.co_filename == str(path):
            function.__code__ = changed[_key(function.__code__)]


def _codes(code: CodeType) -> Iterator[CodeType]:
    for one in code.co_consts:
        if isinstance(one, CodeType):
            yield one
            yield from _codes(one)


def _key(code: CodeType) -> Key:
    return code.co_qualname, code.co_firstlineno


class _Reached:
    """Lines of the files that run inside of the `with`."""

    def __init__(self, files: set[str]) -> None:
        self._files = files
        self.lines: set[tuple[str, int]] = set()

    def __enter__(self) -> _Reached:
        sys.settrace(self._call)
        return self

    def __exit__(self, *_about: object) -> None:
        sys.settrace(None)

    def _call(self, frame: FrameType, _event: str, _argument: Any) -> Any:
        return self._line if frame.f_code.co_filename in self._files else None

    def _line(self, frame: FrameType, _event: str, _argument: Any) -> Any:
        self.lines.add((frame.f_code.co_filename, frame.f_lineno))
        return self._line
