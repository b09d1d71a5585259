"""Mutation testing of the objectives: one small change at a time, and the tests that ought to notice it.

    python scripts/mutate_objectives.py [NAME ...] [--jobs 2]     names of files in preceptor_student/objectives; none: all

A line of the output is a mutant that no test noticed. Verdicts are kept in .cache/objectives-mutants.json by the content of the
file, so that a run that was stopped goes on, and survivors are tried again when tests have changed.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "services" / "student" / "preceptor_student" / "objectives"
STATE = ROOT / ".cache" / "objectives-mutants.json"
TESTS = (
    *("tests/catalog", "tests/objectives"),
    *(f"tests/unit/preceptor_student/test_{name}.py" for name in ("divergences", "tail_sampling", "policy_gradient", "chunked")),
    "tests/unit/benchmarks/test_bench_loss.py",
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    import pytest
    import torch

    from scripts.mutation.running import MutationRun
    from scripts.mutation.verdicts import Verdicts, digest

    torch.set_num_threads(1)
    every = sorted(path for path in FOLDER.glob("*.py") if path.stem != "__init__")
    files = [path for path in every if not given.names or path.stem in given.names]
    tests = sorted(one for path in TESTS for one in ([ROOT / path] if path.endswith(".py") else (ROOT / path).glob("*.py")))
    verdicts = Verdicts(STATE, digest(tests))
    run = MutationRun(files, verdicts, given.jobs)
    status = pytest.main(["-q", "-s", "-p", "no:xdist", "-m", "not slow", *TESTS], plugins=[run])
    survivors = list(verdicts.survivors(files))
    for name, what, verdict in survivors:
        print(f"{name} {what}   ({verdict})")
    counts = sum((Counter(verdicts.counts(path)) for path in files), Counter[str]())
    print(f"{counts.total()} mutants in {len(files)} files: {dict(counts)}")
    return int(status)


if __name__ == "__main__":
    sys.exit(main())
