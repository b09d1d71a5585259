"""The configuration file: flat keys with lines; what YAML would let slip is refused at its line."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preceptor.config.yaml_file import MAX_FILE_BYTES, read_entries
from preceptor.errors import ConfigurationError


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("yaml") / "preceptor.yaml"


def test_values_have_types_and_lines(file: Path) -> None:
    file.write_text("log_level: info\n\nteacher:\n  grpc_port: 6000\n  drain_grace_s: 2.5\n  key_file: null\n", encoding="utf-8")
    entries = {name: (entry.value, entry.line) for name, entry in read_entries(file).items()}
    assert entries == {
        "log_level": ("info", 1),
        "teacher.grpc_port": (6000, 4),
        "teacher.drain_grace_s": (2.5, 5),
        "teacher.key_file": (None, 6),
    }


def test_an_empty_file_says_nothing(file: Path) -> None:
    file.write_text("# nothing yet\n", encoding="utf-8")
    assert read_entries(file) == {}


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("log_level: a\nlog_level: b\n", 2, "stands twice"),
        ("teacher:\n  host: a\n  host: b\n", 3, "stands twice"),
        ("teachr:\n  host: a\n", 1, "unknown section 'teachr'"),
        ("teacher: 5\n", 1, "a mapping"),
        ("- a\n", 1, "a mapping"),
        ("log_level: [a]\n", 1, "single value"),
        ("? [a]\n: b\n", 1, "plain word"),
        ("a: b: c\n", 1, "mapping values are not allowed"),
        ("log_level: !!python/object:os.system x\n", 1, "no value of the kind 'os.system'"),
        ("log_level: !!int x\n", 1, "no value of the kind 'int'"),
        ("log_level: !!bool x\n", 1, "no value of the kind 'bool'"),
        ("log_level: 2026-99-99\n", 1, "no value of the kind 'timestamp'"),
        ("[" * 100_000, 1, "nested too deeply"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(file: Path, text: str, line: int, message: str) -> None:
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError) as caught:
        read_entries(file)
    assert f"preceptor.yaml:{line}: " in caught.value.message
    assert message in caught.value.message


def test_an_absent_or_huge_file_is_refused(file: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file"):
        read_entries(file.with_name("absent.yaml"))
    file.write_bytes(b"#" * (MAX_FILE_BYTES + 1))
    with pytest.raises(ConfigurationError, match="too large"):
        read_entries(file)


@given(st.binary(max_size=200))
def test_no_bytes_break_it(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    refusal = ""
    try:
        assert all(entry.line >= 1 for entry in read_entries(file).values())
    except ConfigurationError as error:
        refusal = error.message
    assert not refusal or "preceptor.yaml" in refusal
