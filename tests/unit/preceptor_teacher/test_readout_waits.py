"""Between the first chunk and the last the host asks an accelerator for nothing.

Tensors of the device `meta` take an accelerator's way through the readout and have no values: any question about one, and any
copy to the host, is an error.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from preceptor.types import RaggedIds, TailOf
from preceptor_teacher.readout import Head, RowSpec, Signals
from preceptor_teacher.readout.run import TILE_ROWS, chunk_rows_of, read_on_device

ROWS, TOKENS, PADDED, HIDDEN = 10, 20_000, 12, 8
VIEWS = ("view", "slice", "select", "unsqueeze", "expand", "as_strided", "detach", "alias", "aten.t.", "transpose", "empty")


class Calls(TorchDispatchMode):
    """The names of what is computed, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


def spec_of(signals: Signals, lists: bool) -> RowSpec:
    candidates = RaggedIds.from_rows([[1, 2, 3]] * ROWS) if lists else None
    return RowSpec(signals, np.arange(ROWS), candidates, np.zeros(ROWS, np.uint64), np.arange(ROWS))


def states_of(dtype: torch.dtype, rows: int = ROWS, hidden: int = HIDDEN) -> torch.Tensor:
    return torch.empty(rows, hidden, dtype=dtype, device="meta")


def head_of(dtype: torch.dtype, tokens: int = TOKENS + PADDED, hidden: int = HIDDEN, **more) -> Head:
    return Head(torch.empty(tokens, hidden, dtype=dtype, device="meta"), tokens - PADDED, **more)


EVERYTHING = Signals(True, 64, True, TailOf.UNION, 4, 0.7)
MIXES = {
    "candidates": (Signals(), True),
    "sampled": (Signals(sampled=True), False),
    "topk": (Signals(sampled=True, topk=64), False),
    "topk of nearly all": (Signals(topk=9000, tail=TailOf.TOPK), False),
    "tail": (Signals(entropy=True, tail=TailOf.CANDIDATES), True),
    "samples": (Signals(samples=2, temperature=1e-40), False),
    "everything": (EVERYTHING, True),
}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("mix", MIXES)
@torch.inference_mode()
def test_no_signal_makes_the_host_wait_for_a_value(mix, dtype):
    signals, lists = MIXES[mix]
    head = head_of(dtype, bias_v=torch.empty(TOKENS + PADDED, device="meta"), scale=0.5, soft_cap=30.0)
    with Calls() as calls:
        read_on_device(states_of(dtype), head, spec_of(signals, lists), 4)
    products = [name for name in calls.names if name.startswith("aten.mm")]
    assert products == ["aten.mm.dtype_out" if dtype == torch.bfloat16 else "aten.mm.out"] * 3, (
        "one of each chunk, into its plane"
    )


@pytest.mark.parametrize(
    "question",
    [lambda x: x.sum().item(), lambda x: x.nonzero(), lambda x: x[x > 1], lambda x: bool((x > 1).any()), lambda x: x.cpu()],
)
def test_a_question_about_a_value_would_have_been_an_error(question):
    with pytest.raises((RuntimeError, NotImplementedError)):
        question(torch.empty(3, dtype=torch.int64, device="meta"))


@pytest.mark.parametrize(("mix", "most"), [("candidates", 40), ("topk", 75), ("everything", 180)])
@torch.inference_mode()
def test_a_chunk_of_a_large_vocabulary_is_few_launches(mix, most):
    """A launch takes the host some microseconds, a chunk's product the device some hundred: it must not fall behind."""
    signals, lists = MIXES[mix]
    with Calls() as calls:
        read_on_device(states_of(torch.bfloat16), head_of(torch.bfloat16, 151_936), spec_of(signals, lists), ROWS)
    launches = [name for name in calls.names if not any(view in name for view in VIEWS)]
    assert len(launches) <= most, launches


@pytest.mark.parametrize(("hidden", "rows"), [(1024, 64), (2048, 128), (4096, 320)])
def test_a_chunk_on_an_accelerator_fills_whole_tiles_and_grows_with_the_inputs(hidden, rows):
    head, states = head_of(torch.bfloat16, 151_936, hidden), states_of(torch.bfloat16, 8192, hidden)
    assert chunk_rows_of(head, states) == rows
    assert rows % TILE_ROWS == 0
    assert 4 * rows * head.rows <= 0.2 * (head.weight_vh.nbytes + states.nbytes), "P7"
