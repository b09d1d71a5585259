"""The provider of the black-box demo: a process of its own, an address, a key, and what the teacher service is told of it."""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml

from preceptor.demo.look import Answers
from preceptor.errors import Unavailable
from preceptor.learner import EvaluationItem
from preceptor.local.child import ChildSpec
from preceptor.local.ports import LOOPBACK, free_ports
from preceptor.local.stack import Probe
from preceptor.recipes import is_match

JUDGE_NAME, CHECKS_NAME = "tiny-judge", "checks"
KEY_VARIABLE = "STAND_IN_KEY"
TIMEOUT_S = 60.0
QUESTIONS_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class StandInProvider:
    """`python -m preceptor_teacher.testing` on a free port, behind a key of its own. Everybody reaches the model through it."""

    model: Path
    folder: Path
    port: int = field(default_factory=lambda: free_ports(1)[0])
    key: str = field(default_factory=lambda: f"sk-{secrets.token_hex(16)}", repr=False)

    @property
    def base_url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}/v1"

    @property
    def child(self) -> ChildSpec:
        """How it is started."""
        serve = (sys.executable, "-m", "preceptor_teacher.testing", "--model", str(self.model), "--name", JUDGE_NAME)
        command = (*serve, "--port", str(self.port), "--api-key-env", KEY_VARIABLE)
        ready = Probe(f"http://{LOOPBACK}:{self.port}/readyz")
        return ChildSpec("provider", command, self.folder / "provider.log", ready, {KEY_VARIABLE: self.key})

    def write_teachers_file(
        self, others: Mapping[str, Mapping[str, Any]] | None = None, price: Mapping[str, float] | None = None
    ) -> Path:
        """The operator's file for a teacher service that has this provider, checks that ask nobody, and what else is given."""
        self.folder.mkdir(parents=True, exist_ok=True)
        key_file = self.folder / "provider.key"
        with os.fdopen(os.open(key_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            file.write(self.key)
        where = {"base_url": self.base_url, "private_hosts": [LOOPBACK]}
        entry: dict[str, Any] = {"engine": "api", **where, "model": JUDGE_NAME, "api_key_file": key_file.name}
        entry |= {"price": dict(price)} if price else {}
        path = self.folder / "teachers.yaml"
        teachers = {JUDGE_NAME: entry, CHECKS_NAME: {"engine": "check"}} | {
            name: dict(one) for name, one in (others or {}).items()
        }
        path.write_text(yaml.safe_dump({"teachers": teachers}), encoding="utf-8")
        return path

    async def answers(self, items: Sequence[EvaluationItem]) -> Answers:
        """What the model answers to held-out questions, asked like any chat model."""
        room = asyncio.Semaphore(QUESTIONS_AT_ONCE)
        headers = {"authorization": f"Bearer {self.key}"}
        async with httpx.AsyncClient(base_url=self.base_url, headers=headers, timeout=TIMEOUT_S, trust_env=False) as http:
            texts = await asyncio.gather(*(_asked(http, room, item.prompt) for item in items))
        right = [is_match(text, item.answer, "last_word") for text, item in zip(texts, items, strict=True)]
        return Answers(texts, sum(right) / len(right))


async def _asked(http: httpx.AsyncClient, room: asyncio.Semaphore, prompt: str) -> str:
    body: dict[str, Any] = {"model": JUDGE_NAME, "messages": [{"role": "user", "content": prompt}], "temperature": 0}
    async with room:
        try:
            reply = (await http.post("/chat/completions", json=body)).raise_for_status()
        except httpx.HTTPError as error:
            raise Unavailable(f"the provider did not answer: {type(error).__name__}", field="provider") from error
    return str(reply.json()["choices"][0]["message"]["content"])
