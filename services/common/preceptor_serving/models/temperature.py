"""Logits over a temperature, however cold."""

from __future__ import annotations

from torch import Tensor

COLDEST_IN_F32 = 1e-30  # a colder temperature, or its inverse, is no normal f32


def tempered(logits_nv: Tensor, temperature: float) -> Tensor:
    """One that f32 cannot divide by leaves each row's peak at 0 and the rest at -inf, not NaN."""
    if temperature == 1.0:
        return logits_nv
    if temperature >= COLDEST_IN_F32:
        return logits_nv / temperature
    below_nv = logits_nv - logits_nv.detach().amax(-1, keepdim=True)
    return (below_nv.double() / temperature).to(logits_nv.dtype)
