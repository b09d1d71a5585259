"""When a pass does not fit into memory: how that is recognised, and what an item hears that does not fit even alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

from preceptor.errors import TooLarge
from preceptor.logs import get_logger
from preceptor_serving.models.device import free_unused, is_out_of_memory
from preceptor_teacher.engines.answer import Planned

T = TypeVar("T")
log = get_logger("preceptor.engine")


def if_it_fits(work: Callable[[], T], device: torch.device) -> T | None:
    """The result, which is never None; None where memory for it was not to be had, and then all of it is free again."""
    try:
        return work()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        log.warning("out_of_memory", device=str(device), error=str(error))
    # Not inside the handler: there the traceback still holds the tensors of the pass that failed.
    free_unused(device)
    return None


def does_not_fit(planned: Planned, device: torch.device) -> TooLarge:
    """For an item that had the device to itself."""
    asked = f"{planned.tokens} tokens, {len(planned.plan)} rows"
    return TooLarge(
        f"scoring {asked} takes more memory than {device} has free, even alone",
        field="sequence",
        value=asked,
        limit=f"the free memory of {device}",
        hint="send a shorter sequence or ask for fewer signals; an operator can lower the teacher's max_sequence_tokens",
    )
