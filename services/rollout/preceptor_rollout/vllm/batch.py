"""Everything that runs in vLLM at once. Whichever unit has its turn steps it for all; what others get by it waits for them."""

# pyright: reportMissingImports=false
# vLLM is in an environment of its own.

from __future__ import annotations

import time
from collections.abc import Sequence

from vllm import SamplingParams
from vllm.lora.request import LoRARequest
from vllm.v1.engine import EngineCoreOutput, EngineCoreRequest

from preceptor.errors import Internal, PreceptorError
from preceptor_rollout.vllm.unit import GrowingUnit, Grown
from preceptor_serving.vllm.core import Core, or_the_process_ends


class Batch:
    """Called by one thread."""

    def __init__(self, core: Core, chunk_tokens: int) -> None:
        self._core, self._chunk_tokens = core, chunk_tokens
        self._running: dict[str, tuple[GrowingUnit, Grown]] = {}
        self._failed: dict[GrowingUnit, PreceptorError] = {}

    @property
    def idle(self) -> bool:
        return not self._running

    def begin(self, unit: GrowingUnit, adapter: LoRARequest | None) -> None:
        """The unit's sequences take part from the next step on."""
        for one in unit.sequences:
            self._running[one.request_id] = (unit, one)
            self._core.add(_request(unit, one, adapter))

    def end(self, unit: GrowingUnit) -> None:
        """What is left of a unit whose caller has gone, or that failed, leaves vLLM."""
        self._failed.pop(unit, None)
        self._stop([one.request_id for one in unit.sequences if one.request_id in self._running])

    def raise_for(self, unit: GrowingUnit) -> None:
        """Raises what kept this unit from going on."""
        if unit in self._failed:
            raise self._failed[unit]

    def step(self) -> None:
        """A token for each running sequence that vLLM has room for."""
        with or_the_process_ends():
            outputs, _ = self._core.step()
        due = [self._running[out.request_id] for out in outputs if out.request_id in self._running and self._takes(out)]
        if not due:
            return
        stretches = self._core.on_workers("preceptor_take", [one.request_id for _, one in due])
        for (unit, one), stretch in zip(due, stretches, strict=True):
            try:
                unit.took(one, stretch)
            except PreceptorError as error:
                self._failed[unit] = error
        self._stop([one.request_id for _, one in due if one.reason is not None])

    def _takes(self, out: EngineCoreOutput) -> bool:
        """Hands on what one sequence got; True where a chunk of it is due."""
        unit, one = self._running[out.request_id]
        due = [unit.drew(one, token, self._chunk_tokens) for token in out.new_token_ids]
        if out.finish_reason is not None and one.reason is None:
            self._failed[unit] = Internal("vLLM ended a rollout before its stop rules did", value=str(out.finish_reason))
        return any(due)

    def _stop(self, request_ids: Sequence[str]) -> None:
        """Ends requests, also those that vLLM has ended by itself."""
        if not request_ids:
            return
        for one in request_ids:
            del self._running[one]
        self._core.forget(request_ids)
        self._core.on_workers("preceptor_forget", request_ids)


def _request(unit: GrowingUnit, one: Grown, adapter: LoRARequest | None) -> EngineCoreRequest:
    """Ends are ours: vLLM is told the length alone. Prefixes are shared inside a unit, which is one caller's."""
    params = SamplingParams(
        temperature=0.0,  # its own sampler is not used
        max_tokens=unit.most_tokens(one),
        ignore_eos=True,
        detokenize=False,
        extra_args=one.draws.extra_args(),
    )
    return EngineCoreRequest(
        request_id=one.request_id,
        prompt_token_ids=one.context.tolist(),
        mm_features=None,
        sampling_params=params,
        pooling_params=None,
        arrival_time=time.time(),
        lora_request=adapter,
        cache_salt=unit.salt,
        data_parallel_rank=None,
    )
