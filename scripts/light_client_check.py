"""Proves that `pip install .` alone is a working light client, and prints what it weighs.

Makes a fresh environment, installs the checkout without extras, imports all its public modules with the heavy packages
blocked, runs `preceptor --help` five times, and asks for a service, which has to name the pip command for its extra.

With `--floors` every dependency is installed at the oldest version that pyproject.toml admits (protobuf 6.33 among them), and
the golden bytes and messages are decoded there: a floor that nobody ran is a guess.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
INSTALL_TIMEOUT_S = 600
COMMAND_TIMEOUT_S = 60
HELP_RUNS = 5
FLOOR_TESTS = ("tests/unit/preceptor/codec/test_golden.py", "tests/unit/preceptor/wire", "tests/unit/preceptor/test_limits.py")
FLOOR_TEST_TOOLS = ("pytest", "pytest-asyncio", "pytest-timeout", "hypothesis")


def call(*command: str | Path, timeout_s: float = COMMAND_TIMEOUT_S, check: bool = True) -> subprocess.CompletedProcess[str]:
    """The finished process; a failure ends the script with its output."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PRECEPTOR_", "VIRTUAL_ENV"))}
    words = [str(part) for part in command]
    done = subprocess.run(words, capture_output=True, text=True, timeout=timeout_s, env=clean, cwd=ROOT, check=False)
    if check and done.returncode:
        sys.exit(f"failed ({done.returncode}): {' '.join(words)}\n{done.stdout}{done.stderr}")
    return done


def install(folder: Path, constraints: Path) -> Path:
    """The bin folder of a fresh environment that holds the light client alone."""
    venv.create(folder, with_pip=True)
    bin_folder = folder / "bin"
    started = time.perf_counter()
    call(*pip_install(bin_folder), ".", "--constraint", constraints, timeout_s=INSTALL_TIMEOUT_S)
    print(f"pip install .            {time.perf_counter() - started:.1f} s")
    return bin_folder


def pip_install(bin_folder: Path) -> tuple[str | Path, ...]:
    return (bin_folder / "python", "-m", "pip", "install", "--quiet")


def floors() -> list[str]:
    """Every dependency of the light client, pinned to the oldest version that pyproject.toml admits."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    return [re.sub(r">=", "==", one) for one in declared]


def check_floors(folder: Path) -> None:
    """Installs at the floors, then decodes golden bytes and messages there."""
    constraints = folder / "floors.txt"
    constraints.write_text("\n".join(floors()))
    bin_folder = install(folder / "venv", constraints)
    call(*pip_install(bin_folder), *FLOOR_TEST_TOOLS, "--constraint", constraints, timeout_s=INSTALL_TIMEOUT_S)
    call(bin_folder / "python", ROOT / "scripts/light_client_probe.py")
    done = call(bin_folder / "python", "-m", "pytest", *FLOOR_TESTS, timeout_s=INSTALL_TIMEOUT_S)
    print("\n".join(floors()))
    print(done.stdout.strip().splitlines()[-1])


def installed_mb(bin_folder: Path) -> float:
    """Size of site-packages without pip itself, bytecode included."""
    site = next((bin_folder.parent / "lib").glob("python*/site-packages"))
    files = (path for path in site.rglob("*") if path.is_file() and path.relative_to(site).parts[0].split("-")[0] != "pip")
    return sum(path.stat().st_size for path in files) / 1e6


def help_seconds(bin_folder: Path) -> list[float]:
    """How long `preceptor --help` takes, run by run."""
    seconds: list[float] = []
    for _ in range(HELP_RUNS):
        started = time.perf_counter()
        call(bin_folder / "preceptor", "--help")
        seconds.append(time.perf_counter() - started)
    return seconds


def missing_extra(bin_folder: Path) -> str:
    """What a service without its parts says; it has to name the exact pip command."""
    done = call(bin_folder / "preceptor", "serve", "teacher", check=False)
    if done.returncode != 1 or "pip install 'preceptor[teacher]'" not in done.stderr:
        sys.exit(f"serve teacher does not name its pip command ({done.returncode}): {done.stdout}{done.stderr}")
    return done.stderr.strip()


def check_light(folder: Path) -> None:
    """Installs the versions that passed the tests together, and measures what a user gets."""
    bin_folder = install(folder / "venv", ROOT / "constraints/client.txt")
    seen = json.loads(call(bin_folder / "python", ROOT / "scripts/light_client_probe.py").stdout)
    print(f"modules imported         {len(seen['modules'])}, with {', '.join(seen['blocked'])} blocked")
    seconds = help_seconds(bin_folder)
    runs = ", ".join(f"{one:.2f}" for one in seconds)
    print(f"preceptor --help         median {statistics.median(seconds):.2f} s of {runs}")
    print(f"installed size           {installed_mb(bin_folder):.0f} MB")
    print(f"preceptor serve teacher  {missing_extra(bin_folder)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--floors", action="store_true", help="install the oldest versions that pyproject.toml admits")
    with_floors = parser.parse_args().floors
    with tempfile.TemporaryDirectory(prefix="preceptor light ") as folder:
        (check_floors if with_floors else check_light)(Path(folder))
    print(f"light client{' at its floors' if with_floors else ''}: ok")


if __name__ == "__main__":
    main()
