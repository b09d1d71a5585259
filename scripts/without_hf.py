"""`python scripts/without_hf.py [DEMO ...]`, in .venv-vllm: the demos on vLLM in a copy of this checkout that has no hf engine.

The copy holds what git tracks, less the engines over transformers of teacher and rollouts and their rows in the registry; the
student still trains on transformers. Exits with the first code of a demo that is not 0. Reports go to `runs/without-hf`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CODE = ("clients", "proto", "services/common", "services/teacher", "services/rollout", "services/student")
TEACHER, ROLLOUT = "services/teacher/preceptor_teacher", "services/rollout/preceptor_rollout"
OVER_TRANSFORMERS = (
    f"{TEACHER}/engines/hf",
    *(f"{ROLLOUT}/{name}.py" for name in ("engine", "growth", "batch", "student", "decoding", "turns")),
)
REGISTRY = "services/common/preceptor_serving/engines/registry.py"
ROWS = ('    "hf": ', '    "rollout-hf": ')
DEMOS = {"white-box": (), "shared": ("--shared",), "black-box": ("--black-box",)}


def copy_without_hf(place: Path) -> Path:
    """The tracked files as they are now, less the hf engines."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():  # tracked, and not deleted since
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, place / name)
    for name in OVER_TRANSFORMERS:
        shutil.rmtree(place / name) if (place / name).is_dir() else (place / name).unlink()
    registry = place / REGISTRY
    lines = registry.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if not line.startswith(ROWS)]
    if len(lines) - len(kept) != len(ROWS):
        raise SystemExit(f"{REGISTRY} does not have the rows {ROWS}")
    registry.write_text("".join(kept), encoding="utf-8")
    return place


def environment(place: Path) -> dict[str, str]:
    """The copy's code before that of the checkout, for the demo and for every service that it starts."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(str(place / part) for part in CODE)}


def show_what_is_gone(place: Path) -> None:
    """The demo's own interpreter says which engines it has."""
    say = "from preceptor_serving.engines import registry as r; print('engines of the copy:', *r.ENGINES, '|', r.__file__)"
    subprocess.run([sys.executable, "-c", say], cwd=place, env=environment(place), check=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("demos", nargs="*", metavar="DEMO", help=f"of {', '.join(DEMOS)} (default: all of them)")
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "without-hf", help="where runs and reports go")
    options = parser.parse_args()
    if unknown := sorted(set(options.demos) - DEMOS.keys()):
        parser.error(f"there is no demo {unknown[0]}")
    with tempfile.TemporaryDirectory(prefix="preceptor-without-hf-") as folder:
        place = copy_without_hf(Path(folder))
        show_what_is_gone(place)
        for demo in options.demos or DEMOS:
            print(f"---- {demo}", flush=True)
            command = [sys.executable, "-m", "preceptor", "demo", "--engine", "vllm", *DEMOS[demo]]
            code = subprocess.call([*command, "--folder", str(options.folder.resolve())], cwd=place, env=environment(place))
            if code:
                return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
