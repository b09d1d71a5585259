"""One forward pass over a micro-batch: the states behind chosen rows, flat; the head is applied elsewhere, in chunks.

Sequences are padded on the right. A causal model never reads what stands behind a token, so no mask is needed and a row's
value does not depend on its neighbours' lengths. Dropout is off: the policy that is trained is the one that drew.
Shapes: b sequences, t tokens, n wanted rows, h hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from preceptor_student.batch import Item

ANY_ID = 0  # padding is never read, so any id serves


def row_states(model: PreTrainedModel, items: Sequence[Item], rows: Sequence[NDArray[np.int64]]) -> Tensor:
    """[n, h] with gradient: the final state that predicts rows[i] of items[i], one after the other."""
    ids_bt = torch.from_numpy(_padded(items)).to(model.device)
    states_bth = model.base_model(input_ids=ids_bt, use_cache=False).last_hidden_state
    columns = [item.positions_r[wanted] - 1 for item, wanted in zip(items, rows, strict=True)]
    sequence_n = np.repeat(np.arange(len(items)), [len(one) for one in columns])
    flat_n = torch.from_numpy(sequence_n * states_bth.shape[1] + np.concatenate(columns)).to(model.device)
    return states_bth.flatten(0, 1)[flat_n]


def _padded(items: Sequence[Item]) -> NDArray[np.int64]:
    ids_bt = np.full((len(items), max(len(item.ids) for item in items)), ANY_ID, np.int64)
    for row, item in zip(ids_bt, items, strict=True):
        row[: len(item.ids)] = item.ids
    return ids_bt
