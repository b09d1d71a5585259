"""Optional parts: an absent one is named with its pip command, a broken one is not mistaken for an absent one."""

import sys
from importlib import metadata
from pathlib import Path

import pytest

from preceptor import extras
from preceptor.errors import MissingExtra


def test_require_gives_the_module() -> None:
    assert extras.require("json", extra="teacher") is sys.modules["json"]


def test_an_absent_module_names_the_pip_command() -> None:
    with pytest.raises(MissingExtra) as caught:
        extras.require("no_such_package.inner", extra="teacher")
    assert caught.value.hint == "pip install 'preceptor[teacher]'"
    assert "no_such_package" in caught.value.message
    assert isinstance(caught.value, ImportError)


def test_a_broken_module_is_reported_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_part.py").write_text("import no_such_package_at_all\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError) as caught:
        extras.require("broken_part", extra="teacher")
    assert not isinstance(caught.value, MissingExtra)
    assert caught.value.name == "no_such_package_at_all"


def test_extras_and_parts_are_read_off_the_package() -> None:
    assert {"local", "teacher", "rollout", "student", "vllm", "ray", "dev"} <= set(extras.extras())
    assert {"torch", "fastapi"} <= set(extras.parts_of("teacher"))
    assert "torch" not in extras.base_parts()
    assert {"grpcio", "numpy"} <= set(extras.base_parts())


def test_only_absent_parts_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = {name: "1" for name in extras.parts_of("teacher") if name != "torch"}

    def version(name: str) -> str:
        if name not in installed:
            raise metadata.PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(metadata, "version", version)
    assert extras.missing_parts("teacher") == ["torch"]
    with pytest.raises(MissingExtra, match="torch not installed") as caught:
        extras.require_extra("teacher")
    assert caught.value.hint == "pip install 'preceptor[teacher]'"
