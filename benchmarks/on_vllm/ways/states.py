"""A connector for vLLM's `extract_hidden_states` that works where there is no CUDA: states of a request go to a file at its end.

vLLM's own example copies them on a CUDA stream. What is kept of it here is where the states are: they lie in the KV cache beside
the keys and values, as a layer of their own.
"""

# pyright: reportMissingImports=false
# vLLM is in an environment of its own.

from __future__ import annotations

import torch
from safetensors.torch import save_file
from vllm.distributed.kv_transfer.kv_connector.v1 import example_hidden_states_connector as example


class StatesToFiles(example.ExampleHiddenStatesConnector):
    """Named by `kv_connector`; one worker, no locks."""

    def get_finished(self, finished_req_ids: set[str]) -> tuple[set[str] | None, set[str] | None]:
        """Writes what the scheduler says is through; vLLM frees its blocks then."""
        metadata = self._get_connector_metadata() if self.has_connector_metadata() else None
        pending = getattr(metadata, "pending_saves", [])
        for one in pending:
            blocks = torch.tensor(one.block_ids)
            slots = (blocks[:, None] * self._block_size + torch.arange(self._block_size)).flatten()
            states = example.extract_from_kv_cache(self._kv_cache, slots, len(one.token_ids))
            save_file({"hidden_states": states.contiguous()}, one.filename)
        return {one.req_id for one in pending} or None, None
