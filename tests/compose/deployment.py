"""One deployment of the project's compose file, under a name and on ports of its own."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.compose.tools import Failed, Ran, attempt, insist

ROOT = Path(__file__).parents[2]
REST_PORTS = {"teacher": 8001, "rollout": 8002, "student": 8003}
PORT_VARIABLES = [f"{name.upper()}_{door}_PORT" for name in REST_PORTS for door in ("GRPC", "REST")]
UP_S = 300


@dataclass(frozen=True)
class Deployment:
    """`docker compose` for one project; `env` names the engine."""

    project: str
    env: Mapping[str, str]

    def compose(self, *words: str, timeout_s: float = 120.0) -> str:
        return insist(self.command(words), timeout_s=timeout_s, env=self.environ(), cwd=ROOT)

    def try_compose(self, *words: str, timeout_s: float = 120.0) -> Ran:
        return attempt(self.command(words), timeout_s=timeout_s, env=self.environ(), cwd=ROOT)

    def docker(self, *words: str, timeout_s: float = 60.0) -> str:
        return insist(["docker", *words], timeout_s=timeout_s, env=self.env, cwd=ROOT)

    def up(self) -> None:
        """All services healthy; `Failed` with their last lines where they are not in time."""
        ran = self.try_compose("up", "--detach", "--wait", "--wait-timeout", str(UP_S), timeout_s=UP_S + 60)
        if ran.code:
            seen = self.try_compose("ps", "--all").output + self.try_compose("logs", "--no-color", "--tail", "20").output
            raise Failed(f"up --wait: exit code {ran.code}\n{ran.output[-1000:]}\n{seen}")

    def container(self, service: str) -> str:
        return self.compose("ps", "--all", "--quiet", service).strip()

    def state(self, service: str) -> dict[str, Any]:
        """What the engine knows of the service's container."""
        return json.loads(self.docker("inspect", self.container(service)))[0]

    def crash(self, service: str) -> None:
        """SIGKILL from outside for its first process: the engine sees a crash, and not somebody's wish to stop it."""
        pid = str(self.state(service)["State"]["Pid"])
        killer = ("run", "--rm", "--pid", "host", "--user", "0", "--network", "none", "--entrypoint", "python")
        self.docker(*killer, "preceptor-learner", "-c", f"import os; os.kill({pid}, 9)")

    def get(self, service: str, path: str) -> int:
        """The status code that the service's published port answers with."""
        where = self.compose("port", service, str(REST_PORTS[service])).strip()
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(f"http://{where}{path}", timeout=10) as reply:
                return reply.status
        except urllib.error.HTTPError as refusal:
            return refusal.code

    def command(self, words: tuple[str, ...]) -> list[str]:
        return ["docker", "compose", "--project-name", self.project, "--file", str(ROOT / "docker-compose.yml"), *words]

    def environ(self) -> dict[str, str]:
        """Any free port for every door, unless the caller's environment says otherwise."""
        return dict.fromkeys(PORT_VARIABLES, "0") | {"PATH": os.defpath} | dict(self.env)
