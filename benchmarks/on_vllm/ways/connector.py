"""Hidden states through a KV connector: vLLM keeps them in its cache as a layer of their own and hands out a file a request;
final norm, head and readout are ours, outside of vLLM.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoConfig

from benchmarks.on_vllm.items import TOPK, drawn
from benchmarks.on_vllm.ways.found import F32, KNOWN, LONGER, Found, error_nats, growing, timed
from benchmarks.on_vllm.ways.offline import asked, offline
from preceptor_teacher.readout import Head, ReadoutRows, RowSpec, Signals, readout

CONNECTORS = {
    "vllm": {"kv_connector": "ExampleHiddenStatesConnector"},
    "ours": {"kv_connector": "StatesToFiles", "kv_connector_module_path": "benchmarks.on_vllm.ways.states"},
}
WITHOUT_LOCKS = {"use_synchronization_lock": False}


def measure(folder: Path, count: int, whose: str) -> Found:
    """`whose`: vllm for its own example, ours for one that needs no CUDA."""
    with tempfile.TemporaryDirectory() as place:
        extract = _Extract(folder, Path(place), whose)
        found = Found("every signal; here topk")
        timed(found, count, extract.rows)
        found.bytes_per_token = extract.bytes_per_token
        found.error_nats = error_nats(folder, drawn(1, 2), [_sampled(one) for one in extract.rows(drawn(1, 2))])
        first, longer = growing()
        extract.rows(first[None])
        [rows] = extract.rows(longer[None])
        wrong = error_nats(folder, longer[None], [_sampled(rows)])
        computed = LONGER - extract.cached_tokens
        found.reuse = f"{computed} tokens computed for {LONGER - 1} rows, of which {LONGER - KNOWN} are new, {wrong:.1g} nats"
        return found


def _sampled(rows: ReadoutRows) -> F32:
    assert rows.sampled is not None, "it is asked for"
    return rows.sampled


class _Extract:
    """One engine with the connector, and what reads its files."""

    def __init__(self, folder: Path, place: Path, whose: str) -> None:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        weights = load_file(folder / "model.safetensors")
        self._norm, self._eps = weights["model.norm.weight"], float(config.rms_norm_eps)
        self._head = Head(weights["model.embed_tokens.weight"], config.vocab_size)
        last_layer = {"hf_config": {"eagle_aux_hidden_state_layer_ids": [config.num_hidden_layers]}}
        extra = {"shared_storage_path": str(place), **(WITHOUT_LOCKS if whose == "ours" else {})}
        self._model = offline(
            folder,
            {},
            speculative_config={
                "method": "extract_hidden_states",
                "num_speculative_tokens": 1,
                "draft_model_config": last_layer,
            },
            kv_transfer_config={**CONNECTORS[whose], "kv_role": "kv_producer", "kv_connector_extra_config": extra},
        )
        self.bytes_per_token = 0.0
        self.cached_tokens = 0

    def rows(self, sequences: np.ndarray) -> list[ReadoutRows]:
        """Every row of every sequence."""
        outputs = asked(self._model, sequences)
        self.cached_tokens = int(outputs[0].num_cached_tokens)
        paths = [Path(output.kv_transfer_params["hidden_states_path"]) for output in outputs]
        self._write_out(paths)
        self.bytes_per_token = sum(path.stat().st_size for path in paths) / sequences.size
        found = [self._read(load_file(path)["hidden_states"], ids) for path, ids in zip(paths, sequences, strict=True)]
        for path in paths:
            path.unlink()
        return found

    def _write_out(self, paths: list[Path]) -> None:
        """A request's states are written in the step after its last one, which vLLM takes only if somebody asks for it."""
        core: Any = self._model.llm_engine.engine_core.engine_core
        while not all(path.exists() for path in paths):
            core.step_fn()

    def _read(self, states_nlh: Tensor, ids: np.ndarray) -> ReadoutRows:
        states = states_nlh[: len(ids) - 1, 0].float()
        normed = states * torch.rsqrt(states.square().mean(-1, keepdim=True) + self._eps) * self._norm
        return readout(normed, self._head, RowSpec(Signals(sampled=True, topk=TOPK), ids[1:].astype(np.int64)))
