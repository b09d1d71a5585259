"""verl's teacher manager (0.9) with teachers of ours: the same constructor, the same call, the same tensors.

`verl_plugin` puts it in place of verl's own where verl loads external libraries. The entries of verl's
`distillation.teacher_models` are named as our teachers, or by their aliases; an entry's `key` is what a sample says, which may be
anything. verl's only entry has the name `teacher_model`, so the only teacher needs that alias. The address comes from the
environment, because verl refuses keys that its configuration does not know: PRECEPTOR_TEACHER_ADDRESS, and
PRECEPTOR_API_KEY_FILE where the service asks for keys.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from preceptor.client import AsyncTeacherClient, ScoreItem, Target
from preceptor.errors import ConfigurationError, InvalidArgument, PreceptorError, Unsupported
from preceptor.extras import require
from preceptor.types import Rows, Want
from preceptor.types import Sequence as Tokens

torch: Any = require("torch", extra="verl")
Tensor = Any  # torch's: this package has no torch, its callers have

ADDRESS, KEY_FILE = "PRECEPTOR_TEACHER_ADDRESS", "PRECEPTOR_API_KEY_FILE"
SHIPPED_ENTRY = "teacher_model"  # of verl's own configuration
TOPK_LOSSES = frozenset({"forward_kl_topk"})  # verl's losses that read a list; its others read the token drawn


class PreceptorTeacherManager:
    """Stands for `verl.experimental.teacher_loop.teacher_manager.AsyncTeacherLLMServerManager`."""

    def __init__(self, config: Any, teacher_client: Any = None) -> None:
        """`teacher_client` holds verl's own servers, which are not asked."""
        distillation = config.distillation
        loss = distillation.distillation_loss
        self.topk: int = loss.topk if loss.loss_mode in TOPK_LOSSES else 0
        self.teacher_key: str = distillation.teacher_key
        self._names = _names_by_key(distillation.teacher_models)
        self._target = target_from_environment()
        self._client: AsyncTeacherClient | None = None

    async def compute_teacher_logprobs_single(
        self,
        sequence_ids: list[int],
        multi_modal_data: dict[str, Any] | None = None,
        mm_processor_kwargs: dict[str, Any] | None = None,
        mm_processor_output: list[dict[str, Any]] | None = None,
        routing_key: str | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Ids and log-probabilities [tokens, K]: row i is about token i + 1; the last one, about nothing, is zeros as verl's."""
        if any((multi_modal_data or {}).values()) or mm_processor_output:
            raise Unsupported("this teacher reads token ids alone", field="multi_modal_data", value="given", limit="absent")
        item = ScoreItem(Tokens.of(sequence_ids[:1], sequence_ids[1:]), Want(sampled=True, topk=self.topk))
        [result] = await self._connected().score(self._teacher(routing_key), [item])
        if isinstance(result, PreceptorError):
            raise result
        ids, logprobs = self._columns(sequence_ids, result.rows)
        if np.isnan(logprobs).any():
            raise Unsupported("the teacher has no value for a token, and verl no word for that", field="rows", value="missing")
        return _with_dummy(torch.from_numpy(ids)), _with_dummy(torch.from_numpy(logprobs))

    def _columns(self, sequence_ids: list[int], rows: Rows) -> tuple[Any, Any]:
        if self.topk and rows.topk is not None:
            return rows.topk.ids.astype(np.int32), rows.topk.logprobs.copy()
        assert rows.sampled is not None or not rows.count, "sampled was asked for"
        sampled = np.zeros(0, np.float32) if rows.sampled is None else rows.sampled
        return np.array(sequence_ids[1:], np.int32).reshape(-1, 1), sampled.reshape(-1, 1).copy()

    def _teacher(self, routing_key: str | None) -> str:
        """verl's rule: the only teacher serves every sample, and one of several is named by the sample."""
        if len(self._names) == 1:
            return next(iter(self._names.values()))
        if routing_key is None or routing_key not in self._names:
            raise InvalidArgument(
                f"no teacher for this sample's {self.teacher_key}",
                field=self.teacher_key,
                value=str(routing_key),
                limit=", ".join(self._names),
            )
        return self._names[routing_key]

    def _connected(self) -> AsyncTeacherClient:
        """Made inside the event loop that verl's worker calls from."""
        if self._client is None:
            self._client = AsyncTeacherClient(self._target)
        return self._client


def _names_by_key(entries: Any) -> dict[str, str]:
    """As verl resolves its entries: beside others the one that it ships stands for nothing, and keys are said once."""
    if len(entries) == 1:
        return {"default": next(iter(entries))}
    named = [(entry.key, str(name)) for name, entry in entries.items() if name != SHIPPED_ENTRY]
    keys = [key for key, _ in named]
    if None in keys or len(set(keys)) < len(keys):
        value = ", ".join(map(str, keys))
        raise ConfigurationError("each teacher has a key of its own", field="distillation.teacher_models", value=value)
    return dict(named)


def target_from_environment() -> Target:
    """Where the teachers are."""
    address = os.environ.get(ADDRESS)
    if not address:
        raise ConfigurationError("the teacher's address is not set", field=ADDRESS, limit="HOST:PORT of its gRPC door")
    key_file = os.environ.get(KEY_FILE)
    return Target(address, Path(key_file).read_text(encoding="utf-8").strip() if key_file else None)


def _with_dummy(values: Tensor) -> Tensor:
    return torch.cat([values, torch.zeros(1, values.shape[1], dtype=values.dtype)])
