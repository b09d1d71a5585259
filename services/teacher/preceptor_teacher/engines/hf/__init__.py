"""The `hf` engine: any decoder-only transformers model from a local folder, with every signal.

load     folder -> model, head, tokenizer digests
probe    what the model does on fixed ids: noise floor, looks ahead or not, states can be kept or not
forward  ids (and what is known of a prefix) -> hidden states
states   what is known of prefixes, bounded
cells    the same on a fixed grid, for deterministic mode
answer   hidden states -> rows, through `preceptor_teacher.readout`
engine   the calls
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from preceptor_teacher.engines.hf.engine import HfEngine

__all__ = ["create"]


def create(options: Mapping[str, Any]) -> HfEngine:
    """The factory that the engine registry names; torch is imported here, so that doors may read the options."""
    from preceptor_teacher.engines.hf.engine import HfEngine
    from preceptor_teacher.engines.hf.options import HfOptions

    return HfEngine(HfOptions.from_mapping(options))
