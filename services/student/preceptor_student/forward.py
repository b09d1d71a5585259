"""One forward pass over a micro-batch: the student's log-probabilities of chosen rows, flat.

Sequences are padded on the right. A causal model never reads what stands behind a token, so no mask is needed and a row's
value does not depend on its neighbours' lengths. Dropout is off: the policy that is trained is the one that drew.
Shapes: b sequences, t tokens, c columns that hold some wanted row, n wanted rows, v rows of the head.
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


def row_log_probs(model: PreTrainedModel, items: Sequence[Item], rows: Sequence[NDArray[np.int64]], temperature: float) -> Tensor:
    """[n, v] in f32 with gradient: rows[i] of items[i], one after the other, over the whole head."""
    device = model.device
    ids_bt = torch.from_numpy(_padded(items)).to(device)
    columns = [item.positions_r[wanted] - 1 for item, wanted in zip(items, rows, strict=True)]
    kept_c = np.unique(np.concatenate(columns))
    logits_bcv = model(input_ids=ids_bt, use_cache=False, logits_to_keep=torch.from_numpy(kept_c).to(device)).logits
    sequence_n = np.repeat(np.arange(len(items)), [len(one) for one in columns])
    column_n = np.searchsorted(kept_c, np.concatenate(columns))
    logits_nv = logits_bcv[torch.from_numpy(sequence_n).to(device), torch.from_numpy(column_n).to(device)].float()
    return (logits_nv / temperature if temperature != 1.0 else logits_nv).log_softmax(-1)


def _padded(items: Sequence[Item]) -> NDArray[np.int64]:
    ids_bt = np.full((len(items), max(len(item.ids) for item in items)), ANY_ID, np.int64)
    for row, item in zip(ids_bt, items, strict=True):
        row[: len(item.ids)] = item.ids
    return ids_bt
