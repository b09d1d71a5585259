"""Weight versions on disk: `<root>/<run>/versions/<version>/`, immutable, and named by the digest of their manifest.

    manifest.json   {"schema": 1, "files": {"model.safetensors": {"bytes": 1643944, "sha256": "..."}, ...}}

The manifest is written last, its keys sorted, so that equal files give an equal digest. Services exchange `ModelRef`s only;
each looks for the folder under the roots that its operator configured, and reads nothing that the manifest does not name.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from preceptor.errors import Conflict, Corrupt, InvalidArgument, VersionGone
from preceptor.limits import check_name
from preceptor.types import ModelRef
from preceptor_serving.durable import write_file
from preceptor_serving.models.folder import file_sha256

MANIFEST = "manifest.json"
SCHEMA = 1
VERSIONS, COPIES = "versions", "copies"
MAX_MANIFEST_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Version:
    """A folder whose every file is what its manifest says."""

    folder: Path
    manifest_sha256: bytes


def roots_of(text: str) -> list[Path]:
    """Folders, separated as in PATH."""
    return [Path(root).resolve() for root in text.split(os.pathsep) if root]


def versions_folder(root: Path, run: str) -> Path:
    """Where the versions of a run stand under a root."""
    return root / check_name(run, "model.run") / VERSIONS


def version_name(ref: ModelRef) -> str:
    """The folder of a version. The epoch is in it: a run that was restored may reach a step again with other weights."""
    return f"step-{ref.step}-epoch-{ref.epoch}"


def find_version(roots: Sequence[Path], ref: ModelRef) -> Version:
    """The verified folder of exactly this version, its adapter's where it has one, or `VersionGone` where no root has it."""
    if not ref.run:
        raise InvalidArgument("only versions that a run published are found by their name", field="model.run", value="nothing")
    digest = ref.adapter.manifest_sha256 if ref.adapter else ref.manifest_sha256
    for root in roots:
        if found := _folders_of(root, ref):
            _check_inside(*found, root=root)
            return verify(_named(found, digest), digest)
    where = ", ".join(map(str, roots)) or "no root"
    raise VersionGone(
        f"{ref.run} step {ref.step} of epoch {ref.epoch} is not under {where}",
        field="model",
        value=version_name(ref),
        limit=where,
    )


def copies_folder(run: Path) -> Path:
    """Where a run publishes what is not its own weights, such as their running means: a folder of versions for each name."""
    return run / COPIES


def _folders_of(root: Path, ref: ModelRef) -> list[Path]:
    """The run's own version of the step first, then the copies that were published beside it."""
    own = versions_folder(root, ref.run) / version_name(ref)
    copies = sorted(copies_folder(root / ref.run).glob(f"*/{version_name(ref)}"))
    return [folder for folder in (own, *copies) if folder.is_dir()]


def _named(folders: Sequence[Path], manifest_sha256: bytes) -> Path:
    """The folder whose manifest was asked for."""
    digests = [hashlib.sha256(_read_manifest(folder)).digest() for folder in folders]
    if manifest_sha256 in digests:
        return folders[digests.index(manifest_sha256)]
    raise Conflict(
        f"{folders[0]} has another manifest", field="model.manifest_sha256", value=manifest_sha256.hex(), limit=digests[0].hex()
    )


def write_manifest(folder: Path) -> bytes:
    """Names every file of a finished folder with its size and digest; the digest of the manifest itself."""
    files = {
        path.name: {"bytes": path.stat().st_size, "sha256": file_sha256(path).hex()}
        for path in sorted(folder.iterdir())
        if path.name != MANIFEST
    }
    content = json.dumps({"schema": SCHEMA, "files": files}, sort_keys=True, indent=1).encode()
    write_file(folder / MANIFEST, content)
    return hashlib.sha256(content).digest()


def verify(folder: Path, manifest_sha256: bytes | None = None) -> Version:
    """The folder, after every file in it was found to be the manifest's; with a digest, the manifest must be the one it names."""
    content = _read_manifest(folder)
    digest = hashlib.sha256(content).digest()
    if manifest_sha256 is not None and digest != manifest_sha256:
        _refuse(folder, "has another manifest", digest.hex(), manifest_sha256.hex())
    files = _files_of(folder, content)
    found = {path.name for path in folder.iterdir()} - {MANIFEST}
    if odd := sorted(found ^ files.keys()):
        _refuse(folder, "and its manifest name other files", ", ".join(odd), "the same files")
    for name, entry in files.items():
        _check_file(folder / name, entry)
    return Version(folder, digest)


def _read_manifest(folder: Path) -> bytes:
    path = folder / MANIFEST
    _check_regular(path)
    if path.stat().st_size > MAX_MANIFEST_BYTES:
        _refuse(path, "is too long for a manifest", path.stat().st_size, MAX_MANIFEST_BYTES)
    return path.read_bytes()


def _files_of(folder: Path, content: bytes) -> dict[str, dict[str, Any]]:
    try:
        manifest = json.loads(content)
        if manifest["schema"] != SCHEMA:
            _refuse(folder, "has a manifest of another schema", manifest["schema"], SCHEMA)
        files = cast(dict[str, dict[str, Any]], manifest["files"])
        names = [name for name, entry in files.items() if not ({"bytes", "sha256"} <= entry.keys()) or Path(name).name != name]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Corrupt(f"{folder / MANIFEST} is no manifest", field="manifest", value=str(folder)) from error
    if names:
        _refuse(folder, "has a manifest with an impossible entry", names[0], "a plain file name, its bytes and sha256")
    return files


def _check_file(path: Path, entry: dict[str, Any]) -> None:
    _check_regular(path)
    if path.stat().st_size != entry["bytes"]:
        _refuse(path, "has another length", path.stat().st_size, entry["bytes"])
    if (digest := file_sha256(path).hex()) != entry["sha256"]:
        _refuse(path, "has other content", digest, entry["sha256"])


def _check_regular(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        mode = 0
    if not stat.S_ISREG(mode):
        kind = "a link" if stat.S_ISLNK(mode) else "missing" if mode == 0 else "not a plain file"
        _refuse(path, f"is {kind}", kind, "a plain file")


def _check_inside(*found: Path, root: Path) -> None:
    """No link on the way may lead elsewhere."""
    for folder in found:
        if folder.resolve() != root.resolve() / folder.relative_to(root):
            _refuse(folder, "is reached over a link", str(folder.resolve()), f"inside {root}")


def _refuse(path: Path, why: str, value: object, limit: object) -> None:
    raise Corrupt(f"{path} {why}", field=path.name, value=value, limit=limit)
