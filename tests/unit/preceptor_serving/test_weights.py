"""Version folders: what the manifest names, all of it, and nothing else, wherever it is kept."""

from __future__ import annotations

import errno
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from preceptor.errors import Conflict, Corrupt, Exhausted, InvalidArgument, VersionGone
from preceptor.types import ModelRef
from preceptor_serving.durable import new_folder, remove_leftovers, write_file
from preceptor_serving.weights import find_version, verify, version_name, versions_folder, write_manifest

FILES = {"model.safetensors": b"weights", "config.json": b"{}"}


def make(folder: Path, files: dict[str, bytes] = FILES) -> bytes:
    with new_folder(folder) as temporary:
        for name, content in files.items():
            (temporary / name).write_bytes(content)
        return write_manifest(temporary)


def version(root: Path, step: int = 3) -> ModelRef:
    ref = ModelRef("student", "run", epoch=2, step=step)
    return replace(ref, manifest_sha256=make(versions_folder(root, "run") / version_name(ref)))


def test_a_version_is_found_under_any_root_and_equal_files_have_equal_names(tmp_path):
    ref = version(tmp_path / "b")
    found = find_version([tmp_path / "a", tmp_path / "b"], ref)
    assert found.folder == tmp_path / "b" / "run" / "versions" / "step-3-epoch-2"
    assert found.manifest_sha256 == ref.manifest_sha256 == make(tmp_path / "elsewhere")
    assert ref.manifest_sha256 == hashlib.sha256((found.folder / "manifest.json").read_bytes()).digest()


def test_a_version_that_is_nowhere_is_gone(tmp_path):
    with pytest.raises(VersionGone):
        find_version([tmp_path], ModelRef("student", "run", 1, 1, bytes(32)))


@pytest.mark.parametrize("run", ["", "..", "a/b", "../run", "/etc"])
def test_a_run_that_is_no_name_never_becomes_a_path(run, tmp_path):
    version(tmp_path)
    with pytest.raises(InvalidArgument):
        find_version([tmp_path], ModelRef("student", run, 2, 3, bytes(32)))


def test_another_manifest_than_the_one_asked_for_is_refused(tmp_path):
    ref = version(tmp_path)
    with pytest.raises(Conflict, match="another manifest"):
        find_version([tmp_path], replace(ref, manifest_sha256=bytes(32)))


def changed_byte(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"Weights")


def another_length(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"weights!")


def a_file_less(folder: Path) -> None:
    (folder / "config.json").unlink()


def a_file_more(folder: Path) -> None:
    (folder / "modeling_evil.py").write_text("print('hello')")


def a_link(folder: Path) -> None:
    (folder / "config.json").rename(folder.parent / "config.json")
    (folder / "config.json").symlink_to(folder.parent / "config.json")


def a_linked_manifest(folder: Path) -> None:
    (folder / "manifest.json").rename(folder.parent / "manifest.json")
    (folder / "manifest.json").symlink_to(folder.parent / "manifest.json")


def a_folder_for_a_file(folder: Path) -> None:
    (folder / "config.json").unlink()
    (folder / "config.json").mkdir()


def no_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()


def an_escaping_name(folder: Path) -> None:
    entry = {"bytes": 2, "sha256": hashlib.sha256(b"{}").hexdigest()}
    (folder / "manifest.json").write_text(json.dumps({"schema": 1, "files": {"../config.json": entry}}))


def no_json(folder: Path) -> None:
    (folder / "manifest.json").write_text("[1, 2")


def another_schema(folder: Path) -> None:
    (folder / "manifest.json").write_text(json.dumps({"schema": 2, "files": {}}))


DAMAGES = (
    changed_byte,
    another_length,
    a_file_less,
    a_file_more,
    a_link,
    a_linked_manifest,
    a_folder_for_a_file,
    no_manifest,
    an_escaping_name,
    no_json,
    another_schema,
)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_folder_that_is_not_what_its_manifest_says_is_refused(damage, tmp_path):
    make(tmp_path / "v")
    verify(tmp_path / "v")
    damage(tmp_path / "v")
    with pytest.raises(Corrupt):
        verify(tmp_path / "v")


def test_a_version_behind_a_link_is_refused(tmp_path):
    ref = version(tmp_path / "real")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "run").symlink_to(tmp_path / "real" / "run")
    with pytest.raises(Corrupt, match="over a link"):
        find_version([tmp_path / "root"], ref)


# ---------------------------------------------------------------- durable files


def test_a_folder_whose_filling_fails_leaves_nothing_and_the_old_one_stays(tmp_path):
    make(tmp_path / "v")
    with pytest.raises(FileNotFoundError), new_folder(tmp_path / "v") as temporary:
        (temporary / "half").write_bytes((temporary / "nothing").read_bytes())
    assert [path.name for path in tmp_path.iterdir()] == ["v"]
    verify(tmp_path / "v")


def test_a_full_disk_is_told_and_nothing_is_lost(tmp_path):
    write_file(tmp_path / "head.json", b"old")
    with pytest.raises(Exhausted, match="no room"), new_folder(tmp_path / "v"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert (tmp_path / "head.json").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["head.json"]


def test_leftovers_of_a_kill_are_removed_and_nothing_else(tmp_path):
    write_file(tmp_path / "keep", b"1")
    (tmp_path / ".tmp-keep").write_bytes(b"half")
    (tmp_path / ".tmp-step-1").mkdir()
    remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["keep"]
