"""Reads a configuration file into flat keys with line numbers, and refuses what YAML would let slip.

PyYAML keeps the last of two equal keys and forgets lines; both matter here, so the document is walked as nodes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

from preceptor.config.settings import SETTINGS
from preceptor.errors import ConfigurationError
from preceptor.suggest import did_you_mean

MAX_FILE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One value of the file and the line of its key."""

    value: object
    line: int


def read_entries(file: Path) -> dict[str, FileEntry]:
    """`section.key` or `key` -> entry, for every value in the file."""
    root = _parse(file, _read(file))
    entries: dict[str, FileEntry] = {}
    if root is None:
        return entries
    for name, key, value in _pairs(file, root):
        if name in SETTINGS:
            for inner, inner_key, inner_value in _pairs(file, value):
                _add(file, entries, f"{name}.{inner}", inner_key, inner_value)
        elif isinstance(value, yaml.MappingNode):
            raise _wrong(file, key, f"unknown section {name!r}", name, did_you_mean(name, SETTINGS))
        else:
            _add(file, entries, name, key, value)
    return entries


def _read(file: Path) -> str:
    try:
        if file.stat().st_size > MAX_FILE_BYTES:
            raise ConfigurationError(f"{file} is too large for a configuration file", value=str(file), limit=MAX_FILE_BYTES)
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise ConfigurationError(f"cannot read {file}: {reason}", field="config", value=str(file)) from error


def _parse(file: Path, text: str) -> yaml.Node | None:
    try:
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except RecursionError as error:
        raise ConfigurationError(f"{file}:1: nested too deeply", field="config", value=str(file)) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if isinstance(mark, yaml.Mark) else 1
        problem = getattr(error, "problem", None) or "not valid YAML"
        raise ConfigurationError(f"{file}:{line}: {problem}", field="config", value=str(file)) from error


def _pairs(file: Path, node: yaml.Node) -> list[tuple[str, yaml.Node, yaml.Node]]:
    """The (name, key node, value node) of a mapping."""
    if not isinstance(node, yaml.MappingNode):
        raise _wrong(file, node, "a mapping of names to values is expected", "config", "write `name: value` lines")
    pairs: list[tuple[str, yaml.Node, yaml.Node]] = []
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise _wrong(file, key, "a key is expected to be a plain word", "config", "write `name: value` lines")
        if any(key.value == name for name, _, _ in pairs):
            raise _wrong(file, key, f"{key.value!r} stands twice", key.value, "keep one of them")
        pairs.append((key.value, key, value))
    return pairs


def _add(file: Path, entries: dict[str, FileEntry], name: str, key: yaml.Node, value: yaml.Node) -> None:
    if not isinstance(value, yaml.ScalarNode):
        raise _wrong(file, key, f"{name!r} is expected to be a single value", name, "no setting takes a list or a mapping")
    entries[name] = FileEntry(_scalar(file, name, value), _line(key))


def _scalar(file: Path, name: str, node: yaml.ScalarNode) -> object:
    loader = yaml.SafeLoader("")
    try:
        return loader.construct_object(node)  # pyright: ignore[reportUnknownMemberType]  # its stub leaves the node untyped
    except (yaml.YAMLError, ValueError, LookupError) as error:  # PyYAML lets ValueError and KeyError of `!!int x` through
        what = f"{node.value!r} is no value of the kind {node.tag.rpartition(':')[2]!r}"
        raise _wrong(file, node, what, name, "put text in quotes") from error
    finally:
        loader.dispose()


def _line(node: yaml.Node) -> int:
    return node.start_mark.line + 1


def _wrong(file: Path, node: yaml.Node, what: str, field: str, hint: str) -> ConfigurationError:
    return ConfigurationError(f"{file}:{_line(node)}: {what}", field=field, hint=hint)
