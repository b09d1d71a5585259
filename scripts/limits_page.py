"""Every limit that the protocol declares, read from the compiled protos: the table of docs/limits.md, and what its test walks.

python scripts/limits_page.py
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from preceptor_proto.v1 import limits_pb2, rollout_pb2, student_pb2, teacher_pb2

PAGE = Path(__file__).resolve().parent.parent / "docs" / "limits.md"
BEGIN = "<!-- limits: written by scripts/limits_page.py -->"
END = "<!-- end of limits -->"
SERVICES = tuple(file.services_by_name[name] for file, name in (
    (teacher_pb2.DESCRIPTOR, "Teacher"), (rollout_pb2.DESCRIPTOR, "Rollout"), (student_pb2.DESCRIPTOR, "Student"),
))  # fmt: skip
QUEUE_MESSAGES = (teacher_pb2.ScoreTask.DESCRIPTOR, rollout_pb2.LogEntry.DESCRIPTOR)
ONE_REQUIRED = "one_required"
Bound = float | bool


@dataclass(frozen=True, slots=True)
class Declared:
    """One limit of one field, and the first way that leads to it: a call (or the queue) and the names of fields."""

    call: str
    root: Any
    path: tuple[str, ...]
    owner: Any
    kind: str
    bound: Bound

    @property
    def name(self) -> tuple[str, str, str]:
        return self.owner.name, self.path[-1], self.kind


def declared() -> list[Declared]:
    """Each limit once, in the order of the protos."""
    found: dict[tuple[str, str, str], Declared] = {}
    roots = [(f"{service.name}.{method.name}", method.input_type) for service in SERVICES for method in service.methods]
    for call, root in [*roots, *(("queue", message) for message in QUEUE_MESSAGES)]:
        for limit in _walk(call, root, root, ()):
            found.setdefault(limit.name, limit)
    return list(found.values())


def _walk(call: str, root: Any, message: Any, path: tuple[str, ...]) -> Iterator[Declared]:
    for oneof in message.oneofs:
        if oneof.GetOptions().Extensions[limits_pb2.one_required]:
            yield Declared(call, root, (*path, oneof.name), message, ONE_REQUIRED, True)
    for field in message.fields:
        here = (*path, field.name)
        for option, bound in field.GetOptions().Extensions[limits_pb2.limit].ListFields():
            yield Declared(call, root, here, message, option.name, bound)
        if field.message_type is not None and not field.message_type.GetOptions().map_entry:
            yield from _walk(call, root, field.message_type, here)


def limits_table() -> str:
    """Field, its limits, and one call that carries it."""
    rows: dict[tuple[str, str], list[Declared]] = {}
    for one in declared():
        rows.setdefault(one.name[:2], []).append(one)
    lines = ["| message | field | limits | reached through |", "|---|---|---|---|"]
    for (message, field), limits in rows.items():
        told = ", ".join(_told(one) for one in limits)
        lines.append(f"| `{message}` | `{field}` | {told} | `{limits[0].call}`: `{'.'.join(limits[0].path)}` |")
    return "\n".join(lines)


def _told(limit: Declared) -> str:
    words = {"required": "required", "name": "a name", ONE_REQUIRED: "exactly one"}
    if limit.kind in words:
        return words[limit.kind]
    edge, _, unit = limit.kind.partition("_")
    sign = {"min": ">=", "max": "<=", "above": ">", "unit": "a multiple of"}[edge]
    return f"{sign} {limit.bound:,.10g} {unit}".rstrip()


def page_with(table: str, page: str) -> str:
    """The page with what stands between the two marks replaced."""
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}\n{table}\n{END}{rest.partition(END)[2]}"


def main() -> None:
    PAGE.write_text(page_with(limits_table(), PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"wrote {PAGE.name}")


if __name__ == "__main__":
    main()
