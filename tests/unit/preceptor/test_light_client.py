"""The light client stays light: no module of it asks for torch, transformers, vllm, fastapi or their kin."""

import json
import subprocess
import sys
from pathlib import Path

PROBE = Path(__file__).parents[3] / "scripts" / "light_client_probe.py"


def probe(*code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *code], capture_output=True, text=True, timeout=60, check=False)


def test_every_module_imports_with_the_heavy_packages_blocked() -> None:
    done = probe(str(PROBE))
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert {"preceptor.errors", "preceptor.config.load", "preceptor.cli.serve", "preceptor_proto.v1"} <= set(seen["modules"])
    assert {"torch", "transformers", "vllm", "fastapi"} <= set(seen["blocked"])
    assert seen["attempts"] == []


def test_the_probe_notices_an_attempt_even_if_it_is_caught() -> None:
    """Guards the guard: with a blocked name that the client does import, the probe has to fail."""
    code = f"import runpy, sys; m = runpy.run_path({str(PROBE)!r}); m['main'].__globals__['BLOCKED'] = ('yaml',); m['main']()"
    done = probe("-c", code)
    assert done.returncode == 1
    assert "yaml is blocked" in done.stderr
