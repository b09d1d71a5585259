"""A published version as a plain model folder: `python -m preceptor_student.export runs/NAME OUT --base FOLDER [--step N]`.

Whole versions are such folders already and are copied; an adapter is merged into its base. transformers loads the result, and
whatever else loads Hugging Face folders.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

from preceptor.errors import ConfigurationError, NotFound, PreceptorError, WrongPair
from preceptor_serving.durable import new_folder
from preceptor_serving.models.adapters import is_adapter, merged
from preceptor_serving.models.folder import folder_sha256
from preceptor_serving.models.load import load_causal_lm
from preceptor_serving.weights import MANIFEST, VERSIONS, verify
from preceptor_student.publishing import age_of, copy_beside_weights


def export(run: Path, base: Path, out: Path, step: int | None = None) -> Path:
    """Writes the run's newest version, or the newest of a step; the version's own folder. Nothing is replaced."""
    if out.exists():
        raise ConfigurationError(f"{out} is there already", field="out", value=str(out), hint="name a folder that is not")
    version = _version(run, step)
    verify(version)
    with new_folder(out) as temporary:
        if is_adapter(version):
            _check_base(run, base)
            copy_beside_weights(base, temporary)
            merged(load_causal_lm(base, "f32", "cpu"), version).save_pretrained(temporary)
        else:
            shutil.copytree(version, temporary, dirs_exist_ok=True, ignore=shutil.ignore_patterns(MANIFEST))
    return version


def _version(run: Path, step: int | None) -> Path:
    found = [folder for folder in (run / VERSIONS).glob("step-*-epoch-*") if step is None or age_of(folder)[1] == step]
    if not found:
        there = ", ".join(sorted(folder.name for folder in (run / VERSIONS).glob("step-*"))) or "none"
        raise NotFound(f"{run} has no such version", field="step", value="newest" if step is None else step, limit=there)
    return max(found, key=age_of)


def _check_base(run: Path, base: Path) -> None:
    started_from, given = json.loads((run / "run.json").read_bytes())["base_sha256"], folder_sha256(base).hex()
    if given != started_from:
        raise WrongPair("the run was started from another base", field="base", value=given, limit=started_from)


def main(arguments: list[str] | None = None) -> int:
    """The command; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m preceptor_student.export", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("run", type=Path, help="folder of the run, under the student service's runs_root")
    parser.add_argument("out", type=Path, help="folder to write; it must not exist")
    parser.add_argument("--base", type=Path, required=True, help="folder of the model that the run was started from")
    parser.add_argument("--step", type=int, help="the newest version of this step; unset: the newest of all")
    chosen = parser.parse_args(arguments)
    try:
        version = export(chosen.run, chosen.base, chosen.out, chosen.step)
    except PreceptorError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{chosen.out} is {version.name}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
