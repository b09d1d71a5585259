"""vLLM's engine core in this process: requests go in, and `run` steps it until each of them has been read to its end.

Two things are ours. A request that wants states from some token on may use cached prefixes up to there and no further: behind a
cached prefix no states are computed. And a step that does nothing while requests wait means that idle sessions hold all memory;
then the caller gives some up.
"""

# pyright: reportMissingImports=false
# vLLM is in an environment of its own.

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from vllm import SamplingParams
from vllm.lora.request import LoRARequest
from vllm.v1.engine import EngineCoreRequest
from vllm.v1.engine.core import EngineCore

from preceptor.errors import Internal
from preceptor.types import Ids
from preceptor_serving.vllm.core import Core, or_the_process_ends
from preceptor_teacher.engines.vllm.probe import LOOK_UP, check_core
from preceptor_teacher.engines.vllm.readings import Read, read_of

GiveUp = Callable[[], bool]
"""Frees memory that nobody is waiting for; False where there is none."""


@dataclass(frozen=True, slots=True)
class Part:
    """Tokens to read for one request: all of them, or those that follow what its session has read.

    `salt` says whose cached prefixes it may use; None uses nobody's and leaves none that others would find.
    """

    request_id: str
    ids: Ids
    read: Read
    salt: str | None
    keeps_session: bool
    adapter: LoRARequest | None = None

    def request(self) -> EngineCoreRequest:
        """vLLM wants to draw a token after a prompt: one is drawn, and never read."""
        params = SamplingParams(
            temperature=0.0,
            max_tokens=1,
            ignore_eos=True,
            detokenize=False,
            extra_args=self.read.extra_args(),
            skip_reading_prefix_cache=self.salt is None,
        )
        return EngineCoreRequest(
            request_id=self.request_id,
            prompt_token_ids=self.ids.tolist(),
            mm_features=None,
            sampling_params=params,
            pooling_params=None,
            arrival_time=time.time(),
            lora_request=self.adapter,
            cache_salt=self.salt or self.request_id,
            data_parallel_rank=None,
            resumable=self.keeps_session,
        )


class ScoringCore(Core):
    """A core whose workers keep what its requests read."""

    def __init__(self, core: EngineCore) -> None:
        super().__init__(core)
        check_core(core)
        _bound_look_ups(core)

    def run(self, parts: Sequence[Part], give_up: GiveUp) -> set[str]:
        """Returns when all parts are read; what states came of it is the workers' knowledge.

        The requests returned were to stay open and could not: those still waiting needed their memory.
        A failure in here leaves vLLM in a state that nobody knows: the process ends, and is started again by its host.
        """
        with or_the_process_ends():
            return self._run(parts, give_up)

    def _run(self, parts: Sequence[Part], give_up: GiveUp) -> set[str]:
        waiting = {part.request_id: part for part in parts}
        idle: list[str] = []
        lost: set[str] = set()
        for part in parts:
            self.add(part.request())
        while waiting:
            outputs, executed = self.step()
            ended = [output.request_id for output in outputs]
            idle += [one for one in ended if one in waiting and waiting.pop(one).keeps_session]
            if not waiting or ended or executed or give_up():
                continue
            if not idle:
                raise Internal("vLLM does not schedule what waits", field="kv_cache", value=len(waiting))
            lost.add(idle[0])
            self.forget([idle.pop(0)])
        return lost


def _bound_look_ups(core: EngineCore) -> None:
    """A prefix look-up for a request with a read ends where its first wanted state begins."""
    manager: Any = core.scheduler.kv_cache_manager  # pyright: ignore[reportAttributeAccessIssue]
    original = getattr(manager, LOOK_UP)

    def look_up(request: Any) -> Any:
        read = read_of(request.sampling_params)
        return original(request if read is None else _Shorter(request, read.first + 1))

    setattr(manager, LOOK_UP, look_up)


class _Shorter:
    """A request as it would look with fewer tokens. vLLM never takes a request's last token from the cache."""

    def __init__(self, request: Any, tokens: int) -> None:
        self._request = request
        self.num_tokens = min(tokens, request.num_tokens)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._request, name)
