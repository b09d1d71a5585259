"""vLLM's engine core in this process: requests go in, a step at a time, and outputs come out."""

# pyright: reportMissingImports=false
# vLLM is in an environment of its own.

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vllm.lora.request import LoRARequest
from vllm.v1.engine import EngineCoreOutput, EngineCoreRequest
from vllm.v1.engine.core import EngineCore

from preceptor.errors import Internal, InvalidArgument
from preceptor_serving.vllm.worker import forget_other_weights

EXIT_ENGINE_FAILED = 4
log = logging.getLogger("preceptor.engine")


class Core:
    """Called by one thread, one call at a time."""

    def __init__(self, core: EngineCore) -> None:
        self._core = core

    @property
    def config(self) -> Any:
        """vLLM's own configuration of it."""
        return self._core.vllm_config

    @property
    def cache_tokens(self) -> int:
        """How many tokens' keys and values fit."""
        config = self.config.cache_config
        return int(config.num_gpu_blocks or 0) * int(config.block_size)

    def on_workers(self, method: str | Callable[..., Any], *arguments: Any) -> Any:
        """What the extension's method, or a function of a worker, gives on the first worker that has an answer."""
        answers = [answer for answer in self._core.collective_rpc(method, args=arguments) if answer is not None]
        if not answers:
            raise Internal(f"no worker answered {method}")
        return answers[0]

    def add(self, request: EngineCoreRequest) -> None:
        """The request takes part from the next step on."""
        self._core.add_request(*self._core.preprocess_add_request(request))

    def step(self) -> tuple[list[EngineCoreOutput], bool]:
        """What the requests got by one step, and whether anything was computed."""
        outputs, executed = self._core.step_fn()
        self._core.post_step(model_executed=executed)
        return [out for one in (outputs or {}).values() for out in one.outputs], executed

    def add_adapter(self, adapter: LoRARequest) -> None:
        """Reads an adapter, unless it is in memory."""
        try:
            self._core.add_lora(adapter)
        except (ValueError, RuntimeError, OSError) as error:
            message = f"vLLM refuses the adapter: {error}"
            raise InvalidArgument(message, field="version.adapter", value=adapter.lora_name) from error

    def reload(self, folder: Path) -> None:
        """Reads these whole weights in place of those there are, of which nothing is left. Only while nothing runs."""
        with or_the_process_ends():
            self._core.collective_rpc("reload_weights", kwargs={"weights_path": str(folder)})
            if not self._core.reset_prefix_cache():
                raise Internal("vLLM keeps keys and values of other weights")
            self.on_workers(forget_other_weights)

    def forget(self, request_ids: Sequence[str]) -> None:
        """Ends requests; their full blocks stay in the prefix cache until the room is needed."""
        self._core.abort_requests(list(request_ids))

    def close(self) -> None:
        self._core.shutdown()


@contextmanager
def or_the_process_ends() -> Iterator[None]:
    """A failure inside vLLM leaves it in a state that nobody knows: the process ends, and its host starts another one."""
    try:
        yield
    except Exception as error:
        log.critical("vLLM failed; the engine ends", exc_info=error)
        raise SystemExit(EXIT_ENGINE_FAILED) from error
