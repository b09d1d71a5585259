"""vLLM's own OpenAI-compatible server on a model folder, and a client that asks it for `prompt_logprobs` as fast as it can."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import orjson

NAME = "teacher"
START_TIMEOUT_S = 300.0
CALL_TIMEOUT_S = 600.0
STOP_TIMEOUT_S = 20.0
TOPK = 64
ENVIRONMENT = {"VLLM_CPU_NUM_OF_RESERVED_CPU": "0", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}


def settings(cache_bytes: int) -> list[str]:
    """No compilation: it takes longer than it saves on models of this size."""
    model = ["--dtype", "float32", "--load-format", "safetensors", "--enforce-eager", "--max-logprobs", str(TOPK)]
    quiet = ["--no-enable-log-requests", "--uvicorn-log-level", "warning"]
    return [*model, "--kv-cache-memory-bytes", str(cache_bytes), *quiet]


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back for all sequences: parsed choices, and the bytes that they took."""

    choices: list[dict[str, Any]]
    body_bytes: int


class StockClient:
    """Asks with token ids, so that nothing is tokenised; parses with the fastest JSON library there is."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    @property
    def base_url(self) -> str:
        """As clients of OpenAI's shape take it."""
        return str(self._http.base_url).rstrip("/") + "/v1"

    async def together(self, sequences: Sequence[list[int]]) -> Reply:
        """All sequences in one request."""
        body = await self._post(sequences)
        return Reply(orjson.loads(body)["choices"], len(body))

    async def side_by_side(self, sequences: Sequence[list[int]]) -> Reply:
        """One request for each sequence, all at once."""
        bodies = await asyncio.gather(*(self._post([ids]) for ids in sequences))
        choices = [choice for body in bodies for choice in orjson.loads(body)["choices"]]
        return Reply(choices, sum(map(len, bodies)))

    async def _post(self, sequences: Sequence[list[int]]) -> bytes:
        request = {"model": NAME, "prompt": sequences, "max_tokens": 1, "temperature": 0, "prompt_logprobs": TOPK}
        reply = await self._http.post(
            "/v1/completions", content=orjson.dumps(request), headers={"content-type": "application/json"}
        )
        reply.raise_for_status()
        return reply.content


@asynccontextmanager
async def stock_server(folder: Path, log: Path, cache_bytes: int, threads: int) -> AsyncGenerator[StockClient]:
    """A client of a server that is ready; its processes are gone afterwards. A thread for each core is vLLM's own default."""
    _hold_path(sys.prefix)
    port = _free_port()
    module = "vllm.entrypoints.openai.api_server"
    command = [module, "--model", str(folder), "--served-model-name", NAME, *settings(cache_bytes)]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("OMP_")} | ENVIRONMENT
    if threads != (os.cpu_count() or 1):
        environ["OMP_NUM_THREADS"] = str(threads)
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", *command, "--host", "127.0.0.1", "--port", str(port)),
            stdout=output,
            stderr=output,
            env=environ,
            start_new_session=True,
        )
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=CALL_TIMEOUT_S, trust_env=False) as http:
            await _ready(http, process)
            yield StockClient(http)
    finally:
        await _stop(process)


def _hold_path(prefix: str) -> None:
    """Stock preloads libraries by name and compiles with g++: both split such a path, and it dies when asked."""
    if " " in prefix:
        raise SystemExit(f"stock vLLM cannot run from a path with a space ({prefix}): clone the project elsewhere to measure P2")


async def _ready(http: httpx.AsyncClient, process: asyncio.subprocess.Process) -> None:
    async with asyncio.timeout(START_TIMEOUT_S):
        while True:
            if process.returncode is not None:
                raise RuntimeError(f"stock vLLM ended with {process.returncode}")
            try:
                reply = await http.get("/health")
            except httpx.TransportError:
                await asyncio.sleep(0.5)
            else:
                reply.raise_for_status()
                return


async def _stop(process: asyncio.subprocess.Process) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.returncode is None:
            os.killpg(process.pid, number)
            try:
                async with asyncio.timeout(STOP_TIMEOUT_S):
                    await process.wait()
            except TimeoutError:
                continue


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
