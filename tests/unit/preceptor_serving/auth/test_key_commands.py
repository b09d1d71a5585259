"""`preceptor keys`: what is created is let in, what is revoked is not, and no secret stays behind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from preceptor.cli import run
from preceptor.errors import Unauthenticated
from preceptor_serving.auth.gate import gate_for
from preceptor_serving.auth.identity import Scope


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.yaml"


def create(path: Path, *more: str) -> int:
    return run(["keys", "create", "--key-file", str(path), "--tenant", "acme", "--scope", "score", *more])


def listed(path: Path, capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    capsys.readouterr()
    assert run(["keys", "list", "--key-file", str(path), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_created_key_opens_the_gate_and_only_its_hash_is_kept(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert create(path, "--scope", "train", "--job", "run-7") == 0
    key = capsys.readouterr().out.strip()
    identity = gate_for("0.0.0.0", path).identify(key)
    assert (identity.tenant, identity.job, identity.scopes) == ("acme", "run-7", {Scope.SCORE, Scope.TRAIN})
    assert key.rpartition("_")[2] not in path.read_text()
    assert path.stat().st_mode & 0o077 == 0


def test_a_second_key_leaves_the_first(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert create(path) == 0
    first = capsys.readouterr().out.strip()
    assert create(path, "--days", "3") == 0
    gate_for("0.0.0.0", path).identify(first)
    assert [entry["expires"] is None for entry in listed(path, capsys)] == [True, False]


def test_a_key_may_go_to_a_file_of_its_own_which_is_never_overwritten(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "key"
    assert create(path, "--out", str(out)) == 0
    shown = capsys.readouterr()
    key = out.read_text().strip()
    assert key not in shown.out + shown.err
    assert out.stat().st_mode & 0o077 == 0
    gate_for("0.0.0.0", path).identify(key)
    assert create(path, "--out", str(out)) == 1
    assert out.read_text().strip() == key
    assert len(listed(path, capsys)) == 1


def test_a_revoked_key_is_refused_and_its_holder_told(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert create(path) == 0
    key = capsys.readouterr().out.strip()
    assert run(["keys", "revoke", key.split("_")[1], "--key-file", str(path)]) == 0
    with pytest.raises(Unauthenticated, match="revoked"):
        gate_for("0.0.0.0", path).identify(key)
    assert run(["keys", "revoke", "aaaaaaaa", "--key-file", str(path)]) == 2


@pytest.mark.parametrize("more", [("--scope", "fly"), ("--tenant", "a b"), ("--job", "-x"), ("--days", "0")])
def test_what_the_file_would_refuse_is_refused_before_it_is_written(path: Path, more: tuple[str, ...]) -> None:
    assert create(path, *more) == 2
    assert not path.exists()
