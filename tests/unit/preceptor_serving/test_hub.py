"""Models of a hub: found in the local cache by their commit, never by a branch, whole, as safetensors; offline throughout."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import huggingface_hub
import pytest

from preceptor.config import TeacherSettings
from preceptor.errors import ConfigurationError
from preceptor_serving.models.hub import TAKEN, HubModel, folder_of, is_hub_id, parse_hub_id
from preceptor_teacher.catalog import read_teachers, teachers_of
from preceptor_teacher.engines.hf import create
from tests.support.models import BUNDLED_TEACHER

COMMIT = "0123456789abcdef0123456789abcdef01234567"
MODEL = HubModel("owner/small-model", COMMIT)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    """An empty cache of a machine that is offline."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def stored(cache: Path, files: dict[str, bytes], commit: str = COMMIT) -> Path:
    """A snapshot as the hub's client lays it out: links to blobs."""
    home = cache / "models--owner--small-model"
    snapshot = home / "snapshots" / commit
    for folder in (snapshot, home / "blobs", home / "refs"):
        folder.mkdir(parents=True, exist_ok=True)
    (home / "refs" / "main").write_text(commit)
    for number, (name, content) in enumerate(files.items()):
        (home / "blobs" / str(number)).write_bytes(content)
        (snapshot / name).symlink_to(home / "blobs" / str(number))
    return snapshot


WHOLE = {"config.json": b"{}", "model.safetensors": b"x"}
INDEX = json.dumps({"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}).encode()


def test_a_snapshot_of_the_commit_is_taken_from_the_cache(cache):
    snapshot = stored(cache, WHOLE)
    assert folder_of(MODEL, "model") == snapshot


@pytest.mark.parametrize(
    ("files", "lacks"),
    [
        (None, "without the whole model"),
        ({"config.json": b"{}"}, "without model.safetensors"),
        ({"config.json": b"{}", "pytorch_model.bin": b"x"}, "without model.safetensors"),
        ({"model.safetensors": b"x"}, "without config.json"),
        (
            {"config.json": b"{}", "model.safetensors.index.json": INDEX, "one.safetensors": b"x"},
            "without two.safetensors",
        ),
        ({"config.json": b"{}", "model.safetensors.index.json": b"{}"}, "names no shards"),
    ],
)
def test_what_the_cache_lacks_is_named_on_a_machine_that_is_offline(cache, files, lacks):
    if files is not None:
        stored(cache, files)
    with pytest.raises(ConfigurationError, match=lacks):
        folder_of(MODEL, "model")


def test_a_link_whose_blob_is_gone_is_missing(cache):
    (stored(cache, WHOLE) / "model.safetensors").resolve().unlink()
    with pytest.raises(ConfigurationError, match=r"without model\.safetensors") as refused:
        folder_of(MODEL, "teachers.a.hub")
    assert refused.value.field == "teachers.a.hub"
    assert f"--revision {COMMIT}" in refused.value.hint


def test_a_cache_that_is_not_whole_is_filled_with_safe_files_only(cache, monkeypatch):
    asked, snapshot = [], stored(cache, {"config.json": b"{}"})

    def download(repository, *, revision, allow_patterns, local_files_only):
        asked.append((repository, revision, allow_patterns, local_files_only))
        if not local_files_only:
            (snapshot / "model.safetensors").write_bytes(b"x")
        return str(snapshot)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert folder_of(MODEL, "model") == snapshot
    assert asked == [("owner/small-model", COMMIT, list(TAKEN), local) for local in (True, False)]
    assert not [pattern for pattern in TAKEN if pattern.endswith((".bin", ".py", ".pt", "*"))]


@pytest.mark.parametrize("revision", ["", "@", "@main", "@v1.0", f"@{COMMIT[:12]}", f"@{COMMIT.upper()}", f"@{COMMIT}0"])
def test_what_is_no_commit_is_refused_with_the_reason(cache, revision):
    stored(cache, WHOLE)  # refs/main knows it: the refusal is ours
    with pytest.raises(ConfigurationError, match="other weights tomorrow") as refused:
        teachers_of(TeacherSettings(model=f"big=owner/small-model{revision}"))
    assert refused.value.field == "model"
    assert "owner/small-model@" in str(refused.value.limit)


@pytest.mark.parametrize("text", ["owner", "a/b/c", "../owner/model", "/owner/model", "owner/", ""])
def test_what_is_no_id_is_a_folder_to_a_flag_and_refused_under_the_key_hub(text):
    assert not is_hub_id(text)
    with pytest.raises(ConfigurationError, match="no id of a hub"):
        parse_hub_id(text, "hub")


def test_a_folder_that_is_there_is_meant_before_a_hub(tmp_path, monkeypatch):
    (tmp_path / "owner/model").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    [spec] = teachers_of(TeacherSettings(model="owner/model"))
    assert spec.engine.options == {"name": "model", "folder": "owner/model"}


def test_flags_and_files_name_models_of_a_hub(cache, tmp_path):
    folder = str(stored(cache, WHOLE))
    for text, name in ((str(MODEL), "small-model"), (f"big={MODEL}", "big")):
        [spec] = teachers_of(TeacherSettings(model=text))
        assert spec.engine.options == {"name": name, "folder": folder}
    (tmp_path / "teachers.yaml").write_text(f"teachers:\n  a: {{hub: {MODEL}, dtype: bf16}}\n")
    [spec] = read_teachers(tmp_path / "teachers.yaml")
    assert spec.engine.options == {"name": "a", "folder": folder, "dtype": "bf16"}


def test_a_teacher_has_a_folder_or_a_hub(tmp_path):
    (tmp_path / "teachers.yaml").write_text(f"teachers:\n  a: {{hub: {MODEL}, folder: x}}\n")
    with pytest.raises(ConfigurationError) as refused:
        read_teachers(tmp_path / "teachers.yaml")
    assert refused.value.field == "teachers.a.hub"


def test_the_engine_runs_on_a_snapshot_and_names_its_content_as_that_of_a_folder(cache, tmp_path):
    files = {path.name: path.read_bytes() for path in BUNDLED_TEACHER.iterdir() if path.is_file()}
    snapshot = folder_of_stored(cache, files)
    plain = Path(shutil.copytree(BUNDLED_TEACHER, tmp_path / "plain"))
    here, there = (create({"name": "m", "folder": folder}).describe()[0].model for folder in (snapshot, plain))
    assert here == there


def folder_of_stored(cache: Path, files: dict[str, bytes]) -> Path:
    stored(cache, files)
    return folder_of(MODEL, "model")
