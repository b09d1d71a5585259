"""vLLM's engine core for generation: whose weights it holds can be changed."""

from __future__ import annotations

from pathlib import Path

from preceptor.errors import Internal
from preceptor_serving.vllm.core import Core, or_the_process_ends


class GenerationCore(Core):
    """A core whose workers draw by `preceptor_rollout.vllm.worker`."""

    def reload(self, folder: Path) -> None:
        """Reads these weights in place of those there are, and forgets all keys and values. Only while nothing runs."""
        with or_the_process_ends():
            self._core.collective_rpc("reload_weights", kwargs={"weights_path": str(folder)})
            if not self._core.reset_prefix_cache():
                raise Internal("vLLM keeps keys and values of other weights")
            self.on_workers("preceptor_clear_cache")
