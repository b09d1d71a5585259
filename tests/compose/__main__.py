"""make test-compose: the compose file on real containers.

    python3 -m tests.compose [--cache base.tar]

Uses the engine that answers here; without one, as root on Debian, starts a private one for the length of the test, with base
images made from Debian. Otherwise it says why it cannot, and ends with 0.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.compose.deployment import Deployment
from tests.compose.engine import check_private_engine, has_engine, private_engine
from tests.compose.stand_ins import make_stand_ins
from tests.compose.story import check_files, clear, tell
from tests.compose.tools import Failed, Skipped, Steps


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cache", type=Path, help="keep the Debian base system of the stand-in images in this file")
    cache = parser.parse_args().cache
    steps = Steps()
    try:
        with engine(steps, cache) as env:
            deployment = Deployment(f"preceptor-test-{os.getpid()}", env)
            check_files(deployment)
            steps.ok("compose accepts the files")
            try:
                tell(deployment, steps)
            finally:
                clear(deployment)
    except Skipped as why:
        print(f"skipped: {why}")
        return 0
    except Failed as why:
        print(f"FAILED: {why}")
        return 1
    steps.ok("all of it")
    return 0


@contextmanager
def engine(steps: Steps, cache: Path | None) -> Generator[Mapping[str, str]]:
    """The environment for `docker`: of this machine's engine, or of a private one."""
    if has_engine():
        steps.ok("this machine's engine answers")
        yield os.environ
        return
    check_private_engine()
    work = Path(tempfile.mkdtemp(prefix="preceptor-compose-"))
    try:
        with ExitStack() as stack:
            try:
                env = stack.enter_context(private_engine(work))
                steps.ok("a private engine runs")
                make_stand_ins(work, env, cache.resolve() if cache else None)
                steps.ok("base images are made from Debian")
            except Failed as why:  # it says something of this machine, and nothing of the compose file
                raise Skipped(f"no private engine with base images can be had here: {why}") from why
            yield env
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
