"""The table of SECURITY.md: every call and route of every service, the scope it asks for, and how tenants are kept apart.

    python scripts/access_table.py

Calls and routes are read off the services, so one that is new here is a row that says nothing of tenants yet: `TENANTS` wants a
line for it, and a test asks each row with keys that must be refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from preceptor_rollout.service import RolloutService
from preceptor_serving.doors.rest_probes import OPEN_PATHS, metrics_router
from preceptor_serving.doors.rest_routes import FrameRoute
from preceptor_serving.service import Service
from preceptor_student.service import StudentService
from preceptor_teacher.service import TeacherService

PAGE = Path(__file__).resolve().parent.parent / "SECURITY.md"
BEGIN, END = "<!-- access: written by scripts/access_table.py -->", "<!-- end of access -->"
REFUSED = ("no key", "unknown", "wrong secret", "malformed", "expired", "revoked", "wrong scope")
ANY = "any"

Apart = Literal["run", "job", "key", "service"]
MEANING: dict[Apart, str] = {
    "run": "names a run: refused where another tenant opened it",
    "job": "names a job: jobs of equal names are apart for each tenant, and a key that is bound to one job names no other",
    "key": "shows what belongs to the key's tenant and job; all of it only with the scope metrics or admin",
    "service": "tells or changes nothing of any tenant",
}
DIALECTS: tuple[tuple[str, str, Apart], ...] = (
    ("GET", "/v1/models", "service"),
    ("GET", "/v1/models/{model}", "service"),
    ("POST", "/v1/completions", "job"),
    ("POST", "/v1/chat/completions", "job"),
    ("POST", "/v1/messages", "job"),
    ("POST", "/inference/v1/generate", "job"),
    ("POST", "/get_sequence_logprobs/", "job"),
    ("POST", "/generate", "job"),
    ("GET", "/get_model_info", "service"),
    ("GET", "/model_info", "service"),
)
TENANTS: dict[str, Apart] = {
    "Teacher.Describe": "service",
    "Teacher.Score": "job",
    "Teacher.Grade": "job",
    "Teacher.Status": "key",
    "Teacher.Drain": "service",
    "Teacher.LoadVersion": "run",
    "Teacher.PinVersion": "run",
    "Teacher.DropVersion": "run",
    "Rollout.Describe": "service",
    "Rollout.Render": "service",
    "Rollout.Pieces": "service",
    "Rollout.Generate": "run",
    "Rollout.LoadWeights": "run",
    "Student.Status": "run",
    "Student.OpenRun": "run",
    "Student.Step": "run",
    "Student.Checkpoint": "run",
    "Student.Publish": "run",
    "Student.Evaluate": "run",
    "teacher GET /v1/teachers": "service",
    "teacher GET /v1/teachers/{name}": "service",
    "teacher GET /v1/usage": "key",
    "teacher GET /v1/status": "key",
    "teacher POST /v1/drain": "service",
    "teacher POST /v1/score": "job",
    "teacher POST /v1/grade": "job",
    **{f"teacher {method} {prefix}{path}": apart for prefix in ("", "/t/{teacher}") for method, path, apart in DIALECTS},
    "teacher GET /t/{teacher}/health": "service",
    "teacher GET /t/{teacher}/health/": "service",
    "rollout POST /v1/render": "service",
    "rollout POST /v1/generate": "run",
    "student GET /v1/runs/{run}": "run",
    "GET /metrics": "service",
}


@dataclass(frozen=True)
class Row:
    """One call or route of one service."""

    service: str
    name: str  # Service.Method, or METHOD /path
    scope: str  # `any`: whatever the key may be used for

    @property
    def key(self) -> str:
        """Its name in `TENANTS`."""
        own = " " in self.name and self.name != "GET /metrics"
        return f"{self.service} {self.name}" if own else self.name


def services() -> tuple[Service, ...]:
    """All of them, none started."""
    return (TeacherService(), RolloutService(), StudentService())


def rows_of(service: Service) -> Iterator[Row]:
    """Everything of a service that asks for a key."""
    for offered in service.grpc_services():
        for name, rpc in offered.rpcs.items():
            yield Row(service.name, f"{offered.descriptor.name}.{name}", rpc.scope or ANY)
    for router in (*service.rest_routers(), metrics_router()):
        for route in router.routes:
            if isinstance(route, FrameRoute) and route.path not in OPEN_PATHS:
                yield from (
                    Row(service.name, f"{method} {route.path}", route.need.scope or ANY) for method in sorted(route.methods)
                )


def access_table() -> list[str]:
    """The Markdown lines; a call without a line in `TENANTS` is a KeyError that names it."""
    lines = ["| service | call or route | scope | another tenant's key |", "|---|---|---|---|"]
    for service in services():
        lines += [f"| {row.service} | `{row.name}` | {row.scope} | {TENANTS[row.key]} |" for row in rows_of(service)]
    legend = [f"- **{name}**: {meaning}." for name, meaning in MEANING.items()]
    return [f"Refused at each of them: {', '.join(REFUSED)}.", "", *lines, "", *legend]


def page_with(table: list[str], page: str) -> str:
    """The page with what stands between the two marks replaced."""
    before, _, rest = page.partition(BEGIN)
    return "\n".join([f"{before}{BEGIN}", *table, f"{END}{rest.partition(END)[2]}"])


def main() -> None:
    PAGE.write_text(page_with(access_table(), PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"wrote {PAGE.name}")


if __name__ == "__main__":
    main()
