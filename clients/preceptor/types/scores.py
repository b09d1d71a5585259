"""What comes back: scores of rows, and the receipt that says exactly what produced them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from preceptor.codec import Grade, HiddenDtype, WireEnum
from preceptor.types.models import ModelInfo, ModelRef
from preceptor.types.sequences import Ids

F32 = NDArray[np.float32]


class CacheTier(WireEnum):
    """Where a score came from; the numbers are the protocol's."""

    NONE = 0
    MEMORY = 1
    DISK = 2


@dataclass(frozen=True, slots=True)
class IdLogprobs:
    """Ids and their log-probabilities, one row each: both arrays are [rows, width]."""

    ids: Ids
    logprobs: F32


@dataclass(frozen=True, slots=True)
class RaggedLogprobs:
    """Log-probabilities of the caller's own lists: row i owns logprobs[offsets[i]:offsets[i + 1]]."""

    offsets: NDArray[np.uint32]
    logprobs: F32

    def row(self, index: int) -> F32:
        return self.logprobs[self.offsets[index] : self.offsets[index + 1]]


@dataclass(frozen=True, slots=True)
class Hidden:
    """Post-final-norm states [rows, width] that predict each row's token; bf16 as its raw 16 bits until it is decoded."""

    states: NDArray[Any]
    dtype: HiddenDtype
    head_sha256: bytes


@dataclass(frozen=True, slots=True)
class Rows:
    """Scores of rows start .. start + count - 1; a signal that was not wanted is None."""

    start: int
    validity: NDArray[np.uint8]
    sampled: F32 | None = None
    entropy: F32 | None = None
    tail: F32 | None = None
    topk: IdLogprobs | None = None
    candidates: RaggedLogprobs | None = None
    samples: IdLogprobs | None = None
    hidden: Hidden | None = None
    has_next: bool = False

    @property
    def count(self) -> int:
        """Rows in here, row R included where `has_next` says so."""
        return len(self.validity)

    @property
    def end(self) -> int:
        return self.start + self.count


@dataclass(frozen=True, slots=True)
class TimeSplit:
    """Where the time of a request went."""

    queued_s: float = 0.0
    prefill_s: float = 0.0
    readout_s: float = 0.0
    serialise_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Receipt:
    """What exactly produced a score."""

    model: ModelRef
    tokenizer_sha256: bytes = b""
    template_sha256: bytes = b""
    engine: str = ""
    engine_version: str = ""
    numerics_version: str = ""
    dtype: str = ""
    temperature: float = 1.0
    grade: Grade = Grade.F32
    error_bound_nats: float = 0.0
    clipped_low: int = 0
    tokens_computed: int = 0
    tokens_reused: int = 0
    tokens_recomputed: int = 0
    cache: CacheTier = CacheTier.NONE
    head_sha256: bytes = b""
    time: TimeSplit = field(default_factory=TimeSplit)

    @classmethod
    def of(cls, info: ModelInfo) -> Self:
        """What is the same for every score of one version; `replace` adds what one score took."""
        return cls(
            model=info.model,
            tokenizer_sha256=info.tokenizer_sha256,
            template_sha256=info.template_sha256,
            engine=info.engine,
            engine_version=info.engine_version,
            numerics_version=info.numerics_version,
            dtype=info.dtype,
            head_sha256=info.head_sha256,
        )


@dataclass(frozen=True, slots=True)
class Scored:
    """One item's outcome when it succeeded."""

    rows: Rows
    receipt: Receipt
