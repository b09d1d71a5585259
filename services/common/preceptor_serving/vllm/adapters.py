"""LoRA adapters over the whole weights of one engine core: each request names its own, and all of them share batches."""

# pyright: reportMissingImports=false
# vLLM is in an environment of its own.

from __future__ import annotations

import itertools
from pathlib import Path

from vllm.lora.request import LoRARequest

from preceptor.errors import Unsupported
from preceptor.types import ModelRef
from preceptor_serving.vllm.core import Core


class Adapters:
    """What one core knows of adapters."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._numbers = itertools.count(1)

    @property
    def enabled(self) -> bool:
        return self._core.config.lora_config is not None

    @property
    def room(self) -> int:
        """How many of them are in memory at once."""
        config = self._core.config.lora_config
        return 0 if config is None else int(config.max_cpu_loras or config.max_loras)

    def request(self, version: ModelRef, folder: Path) -> LoRARequest:
        """How requests name the adapter of a verified folder. Its weights are read when they are needed."""
        if not self.enabled:
            raise Unsupported(
                "this engine was started without adapters",
                field="version.adapter",
                value=version.adapter and version.adapter.name,
                limit="whole weights",
                hint="start it with vLLM's enable_lora: true, and max_lora_rank where ranks are above 16",
            )
        number = next(self._numbers)
        return LoRARequest(f"{version.run or version.name}-{number}", number, str(folder))

    def read(self, request: LoRARequest) -> None:
        """Reads an adapter, unless it is in memory; what vLLM refuses is refused."""
        self._core.add_adapter(request)
