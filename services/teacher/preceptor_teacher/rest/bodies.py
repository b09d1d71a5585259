"""The bodies of `/v1/score`, as OpenAPI shows them. Limits of the protocol itself are checked on the message they become."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

TokenId = Annotated[int, Field(ge=0, lt=1 << 32)]
Count = Annotated[int, Field(ge=0, lt=1 << 32)]
Number = float | Literal["-inf"] | None
"""A natural log-probability; null: missing, "-inf": probability zero."""

FORMS = "context and response, or segments"


class Body(BaseModel):
    """Strict: an id that arrives as text, fraction or truth value is a mistake and no number."""

    model_config = ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True)


class SegmentBody(Body):
    kind: Literal["context", "response"]
    """context is read, response is scored."""

    ids: list[TokenId]
    """Token ids, exactly as they were sampled."""


class WantBody(Body):
    """Any mix of signals, from one forward pass."""

    sampled: bool = False
    """The log-probability of each response token."""

    topk: Count = 0
    """This many most likely ids of each row, with their log-probabilities."""

    candidates: list[list[TokenId]] | None = None
    """For each row of the window, ids whose log-probabilities are wanted; answered in this order."""

    entropy: bool = False
    """The entropy of each row, in nats."""

    tail: Literal["none", "union", "topk", "candidates"] = "none"
    """The log-mass outside the returned ids, or outside one of their lists."""

    samples: Count = 0
    """This many draws from each row, the same for the same seed and row."""

    sample_seed: Annotated[int, Field(ge=0, lt=1 << 64)] = 0
    """Keys the draws."""

    hidden: bool = False
    """The hidden states that predict each row."""

    next: bool = False
    """One more row, for the token after the last."""

    window: Annotated[tuple[Count, Count], Field(strict=False)] | None = None
    """Rows start .. end - 1 only."""

    temperature: Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)] = 1.0
    """Divides the logits."""

    deterministic: bool = False
    """Bit-equal however the work is cut."""


class ItemBody(Body):
    """One sequence: `context` and `response`, or `segments` for several turns."""

    context: list[TokenId] | None = None
    """What the model reads before the response."""

    response: list[TokenId] | None = None
    """The tokens to score."""

    segments: list[SegmentBody] | None = None
    """Several turns, in order."""

    want: WantBody | None = None
    """Unset: the request's."""

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        short = self.context is not None and self.response is not None
        if (self.segments is not None) == (short or self.context is not None or self.response is not None):
            raise PydanticCustomError("sequence", "give {expected}", {"expected": FORMS})
        if self.segments is None and not short:
            raise PydanticCustomError("sequence", "context and response belong together", {"expected": FORMS})
        return self


class ScoreBody(Body):
    """A batch; each item succeeds or fails alone."""

    teacher: str
    """Name or alias; GET /v1/teachers lists them."""

    items: Annotated[list[ItemBody], Field(min_length=1, max_length=1024)]

    want: WantBody = Field(default_factory=WantBody)
    """What is wanted of items that do not say it themselves."""

    job: str = ""
    """The training run that this is accounted to."""

    band: Annotated[int, Field(ge=0, le=7)] = 0
    """Priority: lower is served first."""

    tokenizer_sha256: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")] = ""
    """The student's tokenizer digest; a teacher of another tokenizer refuses."""

    template_sha256: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")] = ""
    """The student's template digest; a teacher of another template refuses."""


class IdListsAnswer(Body):
    ids: list[list[int]]
    logprobs: list[list[Number]]


class RowsAnswer(Body):
    """One entry for each row start .. start + count - 1; a signal that was not wanted is absent."""

    start: int
    count: int
    validity: list[str]
    """ok, or why there is no value."""

    has_next: bool = False
    sampled: list[Number] | None = None
    entropy: list[Number] | None = None
    tail: list[Number] | None = None
    topk: IdListsAnswer | None = None
    candidates: list[list[Number]] | None = None
    samples: IdListsAnswer | None = None
    hidden: list[list[Number]] | None = None


class ErrorAnswer(Body):
    code: str
    message: str
    field: str = ""
    value: str = ""
    limit: str = ""
    hint: str = ""
    retry_after_ms: int | None = None
    queue_position: int | None = None


class ReceiptAnswer(Body):
    """What exactly produced a score."""

    model: dict[str, str | int]
    engine: str
    engine_version: str
    dtype: str
    temperature: float
    tokenizer_sha256: str
    template_sha256: str
    head_sha256: str
    tokens_computed: int
    tokens_reused: int
    tokens_recomputed: int
    cache: str
    time: dict[str, float]


class ResultAnswer(Body):
    """Rows with their receipt, or an error."""

    rows: RowsAnswer | None = None
    receipt: ReceiptAnswer | None = None
    error: ErrorAnswer | None = None


class ScoreAnswer(Body):
    results: list[ResultAnswer]


class TeacherAnswer(Body):
    """One version of one teacher."""

    name: str
    aliases: list[str]
    version: dict[str, str | int]
    engine: str
    engine_version: str
    dtype: str
    tokenizer_sha256: str
    template_sha256: str
    head_sha256: str
    tokenizer_size: int
    head_rows: int
    noise_floor_nats: float | None
    capabilities: dict[str, bool | int | float | list[str]]


class TeachersAnswer(Body):
    teachers: list[TeacherAnswer]
