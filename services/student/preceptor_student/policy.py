"""The model that is trained, as the loss reads it: states behind chosen rows, and the head.

Sequences are padded on the right. A causal model never reads what stands behind a token, so no mask is needed and a row's
value does not depend on its neighbours' lengths. Packed sequences share a row; their positions start anew, from which
transformers masks one from the other. Dropout is off: the policy that is trained is the one that drew.
Shapes: b rows of t tokens, n wanted rows, h hidden size.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from preceptor.errors import ConfigurationError
from preceptor.layout import RowLayout
from preceptor_student.batch import Item
from preceptor_student.head import Head, head_of
from preceptor_student.share import Forward

ANY_ID = 0  # padding is never read, so any id serves
PROBE_TOKENS = 16
MAX_PACKING_NOISE_NATS = {torch.float32: 1e-3, torch.bfloat16: 0.25}


@dataclass(frozen=True, slots=True)
class Policy:
    """A model, and how sequences lie in its rows."""

    model: PreTrainedModel
    packed: bool = False
    forward: Forward | None = None  # None: the base model's own

    @property
    def head_rows(self) -> int:
        return self.model.config.get_text_config().vocab_size

    def head(self, temperature: float) -> Head:
        return head_of(self.model, temperature)

    def row_states(self, items: Sequence[Item], rows: Sequence[NDArray[np.int64]]) -> Tensor:
        """[n, h] with gradient: the final state that predicts rows[i] of items[i], one after the other."""
        layout = RowLayout(self.packed)
        places = [layout.add(len(item.ids)) for item in items]
        states_bth = self._states(*_laid_out([item.ids for item in items], layout, places))
        columns = [item.positions_r[wanted] - 1 for item, wanted in zip(items, rows, strict=True)]
        starts = [row * layout.width_tokens + first for row, first in places]
        flat_n = np.concatenate(columns) + np.repeat(starts, [len(one) for one in columns])
        return states_bth.flatten(0, 1)[torch.from_numpy(flat_n).to(states_bth.device)]

    def _states(self, ids_bt: NDArray[np.int64], positions_bt: NDArray[np.int64]) -> Tensor:
        ids = torch.from_numpy(ids_bt).to(self.model.device)
        positions = {"position_ids": torch.from_numpy(positions_bt).to(ids.device)} if self.packed else {}
        forward = self.forward or self.model.base_model
        return forward(input_ids=ids, use_cache=False, **positions).last_hidden_state


def _laid_out(
    sequences: Sequence[NDArray[np.integer]], layout: RowLayout, places: Sequence[tuple[int, int]]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Ids and positions. What is left of a row goes on counting: it belongs to the last sequence, which does not look ahead."""
    ids_bt = np.full((len(layout.filled_tokens), layout.width_tokens), ANY_ID, np.int64)
    positions_bt = np.tile(np.arange(layout.width_tokens), (len(ids_bt), 1))
    for ids, (row, first) in zip(sequences, places, strict=True):
        ids_bt[row, first : first + len(ids)] = ids
        positions_bt[row, first:] = np.arange(layout.width_tokens - first)
    return ids_bt, positions_bt


@torch.no_grad()
def check_packing(policy: Policy) -> None:
    """`ConfigurationError` where a packed sequence is read otherwise than alone, or sees its neighbour."""
    if "position_ids" not in inspect.signature(policy.model.base_model.forward).parameters:
        raise _refusal("no positions are told to it", "a model that is told positions")
    head = policy.head(1.0)
    ids_t = ((np.arange(3 * PROBE_TOKENS) * 7919 + 1) % head.rows).astype(np.uint32)
    before, other, probed = np.split(ids_t, 3)

    def read(*neighbours: NDArray[np.integer]) -> Tensor:
        """Log-probabilities of the probed sequence behind its neighbours, in one row."""
        layout = RowLayout(packed=True, width_tokens=PROBE_TOKENS * (len(neighbours) + 1))
        sequences = [*neighbours, probed]
        states = policy._states(*_laid_out(sequences, layout, [layout.add(PROBE_TOKENS) for _ in sequences]))
        return head.log_probs(head.product(states[0, -PROBE_TOKENS:]))

    behind, behind_other, alone = read(before), read(other), read()
    leak, noise = float((behind - behind_other).abs().max()), float((behind - alone).abs().max())
    limit = MAX_PACKING_NOISE_NATS[policy.model.dtype]
    if not (leak <= 1e-6 and noise <= limit):
        raise _refusal(f"{leak:.3g} nats of the neighbour, {noise:.3g} nats off", f"0 and {limit}")


def _refusal(value: str, limit: str) -> ConfigurationError:
    return ConfigurationError("this model does not keep packed sequences apart", field="config_json.training.layout",
                              value=value, limit=limit, hint="use layout: padded")  # fmt: skip
