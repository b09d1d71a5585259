"""YAML without its surprises: a key that stands twice is an error with its line, `on` is a word and `1e-3` a number.

PyYAML reads plain words as YAML 1.1 did: `on` and `no` are booleans, `1e-3` is text and `12:30` is 750. Here they are what
YAML 1.2's core schema says, and dates stay text.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from preceptor.errors import ConfigurationError

MAX_FILE_BYTES = 1 << 20
MAX_VALUES = 1 << 17


class CoreLoader(yaml.SafeLoader):
    """The safe loader with the plain words of YAML 1.2's core schema."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  # PyYAML's own name; its resolvers belong to the class


_WORDS = (
    ("null", r"(?:~|null|Null|NULL|)$", [*"~nN", ""]),
    ("bool", r"(?:true|True|TRUE|false|False|FALSE)$", [*"tTfF"]),
    ("int", r"[-+]?[0-9]+$", [*"-+0123456789"]),
    ("float", r"(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan)$", [*"-+.0123456789"]),
    ("merge", r"<<$", ["<"]),
)
for _tag, _pattern, _first in _WORDS:
    CoreLoader.add_implicit_resolver(  # pyright: ignore[reportUnknownMemberType]
        f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), _first
    )


def _decimal(_loader: CoreLoader, node: yaml.ScalarNode) -> int:
    """`010` is ten: PyYAML would read it as octal."""
    return int(node.value)


CoreLoader.add_constructor("tag:yaml.org,2002:int", _decimal)  # pyright: ignore[reportUnknownMemberType]


def read_yaml(path: Path) -> Any:
    """The document of a file, or `ConfigurationError` naming the file and, where there is one, the line."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ConfigurationError(f"{path} is too large for a recipe", field="recipe", value=str(path), limit=MAX_FILE_BYTES)
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise ConfigurationError(f"cannot read {path}: {reason}", field="recipe", value=str(path)) from error
    return parse_yaml(text, str(path))


def parse_yaml(text: str, where: str) -> Any:
    """The document of a text; `where` names it in errors."""
    try:
        root = yaml.compose(text, Loader=CoreLoader)
        if root is not None:
            _check_size(root, where)
            _check_keys(root, where)
        return yaml.load(text, Loader=CoreLoader)  # noqa: S506  # a safe loader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if isinstance(mark, yaml.Mark) else ""
        problem = getattr(error, "problem", None) or "not valid YAML"
        raise ConfigurationError(f"{where}{line}: {problem}", field="recipe", value=where) from error
    except RecursionError as error:
        raise ConfigurationError(f"{where}: nested too deeply", field="recipe", value=where) from error
    except ValueError as error:  # PyYAML lets ValueError of `!!int x` through
        raise ConfigurationError(f"{where}: {error}", field="recipe", value=where) from error


def _check_size(root: yaml.Node, where: str) -> None:
    """Aliases are written out when a recipe is read: a few lines of them can stand for billions of values, or for themselves."""
    counted: dict[yaml.Node, int | None] = {}

    def values(node: yaml.Node) -> int:
        if node not in counted:
            counted[node] = None
            counted[node] = 1 + sum(map(values, _inside(node)))
        found = counted[node]
        if found is None or found > MAX_VALUES:
            what = "an alias contains itself" if found is None else "its aliases stand for too many values"
            line = node.start_mark.line + 1
            raise ConfigurationError(f"{where}:{line}: {what}", field="recipe", value=where, limit=f"<= {MAX_VALUES} values")
        return found

    values(root)


def _inside(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [one for pair in node.value for one in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _check_keys(node: yaml.Node, where: str) -> None:
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            name = str(key.value)
            if name in seen:
                line = key.start_mark.line + 1
                raise ConfigurationError(f"{where}:{line}: {name!r} stands twice", field=name, hint="keep one of them")
            seen.add(name)
            _check_keys(value, where)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _check_keys(item, where)
