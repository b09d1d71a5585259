from preceptor_proto.v1 import limits_pb2 as _limits_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Grade(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    GRADE_F32: _ClassVar[Grade]
    GRADE_F16: _ClassVar[Grade]
    GRADE_U8: _ClassVar[Grade]

class TailOf(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TAIL_OF_NONE: _ClassVar[TailOf]
    TAIL_OF_UNION: _ClassVar[TailOf]
    TAIL_OF_TOPK: _ClassVar[TailOf]
    TAIL_OF_CANDIDATES: _ClassVar[TailOf]

class Validity(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VALIDITY_OK: _ClassVar[Validity]
    VALIDITY_MASKED: _ClassVar[Validity]
    VALIDITY_MISSING: _ClassVar[Validity]
    VALIDITY_MISSING_CAP: _ClassVar[Validity]
    VALIDITY_MISSING_PROVIDER: _ClassVar[Validity]
    VALIDITY_MISSING_DISABLED: _ClassVar[Validity]

class Dtype(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DTYPE_UNSPECIFIED: _ClassVar[Dtype]
    DTYPE_F32: _ClassVar[Dtype]
    DTYPE_F16: _ClassVar[Dtype]
    DTYPE_BF16: _ClassVar[Dtype]

class CacheTier(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CACHE_TIER_NONE: _ClassVar[CacheTier]
    CACHE_TIER_MEMORY: _ClassVar[CacheTier]
    CACHE_TIER_DISK: _ClassVar[CacheTier]

class Provenance(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PROVENANCE_STUDENT: _ClassVar[Provenance]
    PROVENANCE_TEACHER: _ClassVar[Provenance]
    PROVENANCE_MIXED: _ClassVar[Provenance]
    PROVENANCE_ACCEPTED: _ClassVar[Provenance]
    PROVENANCE_REPLACED: _ClassVar[Provenance]

class FinishReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FINISH_REASON_UNSPECIFIED: _ClassVar[FinishReason]
    FINISH_REASON_EOS: _ClassVar[FinishReason]
    FINISH_REASON_LENGTH: _ClassVar[FinishReason]
    FINISH_REASON_STOP: _ClassVar[FinishReason]
    FINISH_REASON_CANCELLED: _ClassVar[FinishReason]
    FINISH_REASON_ENVIRONMENT: _ClassVar[FinishReason]

class ErrorCode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ERROR_CODE_UNSPECIFIED: _ClassVar[ErrorCode]
    INVALID_ARGUMENT: _ClassVar[ErrorCode]
    TOO_LARGE: _ClassVar[ErrorCode]
    CONFIGURATION: _ClassVar[ErrorCode]
    UNAUTHENTICATED: _ClassVar[ErrorCode]
    PERMISSION_DENIED: _ClassVar[ErrorCode]
    NOT_FOUND: _ClassVar[ErrorCode]
    CONFLICT: _ClassVar[ErrorCode]
    GAP: _ClassVar[ErrorCode]
    FENCED: _ClassVar[ErrorCode]
    WRONG_PAIR: _ClassVar[ErrorCode]
    UNSUPPORTED: _ClassVar[ErrorCode]
    VERSION_GONE: _ClassVar[ErrorCode]
    RESOURCE_EXHAUSTED: _ClassVar[ErrorCode]
    UNAVAILABLE: _ClassVar[ErrorCode]
    ENGINE_FAILED: _ClassVar[ErrorCode]
    DEADLINE_EXCEEDED: _ClassVar[ErrorCode]
    CANCELLED: _ClassVar[ErrorCode]
    CORRUPT: _ClassVar[ErrorCode]
    MISSING_EXTRA: _ClassVar[ErrorCode]
    INTERNAL: _ClassVar[ErrorCode]
    BUDGET_SPENT: _ClassVar[ErrorCode]
    ENVIRONMENT_FAILED: _ClassVar[ErrorCode]

class ServiceState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SERVICE_STATE_UNSPECIFIED: _ClassVar[ServiceState]
    SERVICE_STATE_LOADING: _ClassVar[ServiceState]
    SERVICE_STATE_READY: _ClassVar[ServiceState]
    SERVICE_STATE_DEGRADED: _ClassVar[ServiceState]
    SERVICE_STATE_DRAINING: _ClassVar[ServiceState]
GRADE_F32: Grade
GRADE_F16: Grade
GRADE_U8: Grade
TAIL_OF_NONE: TailOf
TAIL_OF_UNION: TailOf
TAIL_OF_TOPK: TailOf
TAIL_OF_CANDIDATES: TailOf
VALIDITY_OK: Validity
VALIDITY_MASKED: Validity
VALIDITY_MISSING: Validity
VALIDITY_MISSING_CAP: Validity
VALIDITY_MISSING_PROVIDER: Validity
VALIDITY_MISSING_DISABLED: Validity
DTYPE_UNSPECIFIED: Dtype
DTYPE_F32: Dtype
DTYPE_F16: Dtype
DTYPE_BF16: Dtype
CACHE_TIER_NONE: CacheTier
CACHE_TIER_MEMORY: CacheTier
CACHE_TIER_DISK: CacheTier
PROVENANCE_STUDENT: Provenance
PROVENANCE_TEACHER: Provenance
PROVENANCE_MIXED: Provenance
PROVENANCE_ACCEPTED: Provenance
PROVENANCE_REPLACED: Provenance
FINISH_REASON_UNSPECIFIED: FinishReason
FINISH_REASON_EOS: FinishReason
FINISH_REASON_LENGTH: FinishReason
FINISH_REASON_STOP: FinishReason
FINISH_REASON_CANCELLED: FinishReason
FINISH_REASON_ENVIRONMENT: FinishReason
ERROR_CODE_UNSPECIFIED: ErrorCode
INVALID_ARGUMENT: ErrorCode
TOO_LARGE: ErrorCode
CONFIGURATION: ErrorCode
UNAUTHENTICATED: ErrorCode
PERMISSION_DENIED: ErrorCode
NOT_FOUND: ErrorCode
CONFLICT: ErrorCode
GAP: ErrorCode
FENCED: ErrorCode
WRONG_PAIR: ErrorCode
UNSUPPORTED: ErrorCode
VERSION_GONE: ErrorCode
RESOURCE_EXHAUSTED: ErrorCode
UNAVAILABLE: ErrorCode
ENGINE_FAILED: ErrorCode
DEADLINE_EXCEEDED: ErrorCode
CANCELLED: ErrorCode
CORRUPT: ErrorCode
MISSING_EXTRA: ErrorCode
INTERNAL: ErrorCode
BUDGET_SPENT: ErrorCode
ENVIRONMENT_FAILED: ErrorCode
SERVICE_STATE_UNSPECIFIED: ServiceState
SERVICE_STATE_LOADING: ServiceState
SERVICE_STATE_READY: ServiceState
SERVICE_STATE_DEGRADED: ServiceState
SERVICE_STATE_DRAINING: ServiceState

class TokenIds(_message.Message):
    __slots__ = ("u32le",)
    U32LE_FIELD_NUMBER: _ClassVar[int]
    u32le: bytes
    def __init__(self, u32le: _Optional[bytes] = ...) -> None: ...

class Segment(_message.Message):
    __slots__ = ("context", "response")
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    context: TokenIds
    response: TokenIds
    def __init__(self, context: _Optional[_Union[TokenIds, _Mapping]] = ..., response: _Optional[_Union[TokenIds, _Mapping]] = ...) -> None: ...

class Sequence(_message.Message):
    __slots__ = ("segments",)
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    segments: _containers.RepeatedCompositeFieldContainer[Segment]
    def __init__(self, segments: _Optional[_Iterable[_Union[Segment, _Mapping]]] = ...) -> None: ...

class RowRange(_message.Message):
    __slots__ = ("start", "end")
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    start: int
    end: int
    def __init__(self, start: _Optional[int] = ..., end: _Optional[int] = ...) -> None: ...

class CandidateIds(_message.Message):
    __slots__ = ("offsets_u32le", "ids_u32le")
    OFFSETS_U32LE_FIELD_NUMBER: _ClassVar[int]
    IDS_U32LE_FIELD_NUMBER: _ClassVar[int]
    offsets_u32le: bytes
    ids_u32le: bytes
    def __init__(self, offsets_u32le: _Optional[bytes] = ..., ids_u32le: _Optional[bytes] = ...) -> None: ...

class Want(_message.Message):
    __slots__ = ("sampled", "topk", "candidates", "log_candidates", "entropy", "tail", "samples", "sample_seed", "hidden", "next", "window", "temperature", "grade", "deterministic")
    SAMPLED_FIELD_NUMBER: _ClassVar[int]
    TOPK_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    LOG_CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    ENTROPY_FIELD_NUMBER: _ClassVar[int]
    TAIL_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_SEED_FIELD_NUMBER: _ClassVar[int]
    HIDDEN_FIELD_NUMBER: _ClassVar[int]
    NEXT_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    GRADE_FIELD_NUMBER: _ClassVar[int]
    DETERMINISTIC_FIELD_NUMBER: _ClassVar[int]
    sampled: bool
    topk: int
    candidates: CandidateIds
    log_candidates: bool
    entropy: bool
    tail: TailOf
    samples: int
    sample_seed: int
    hidden: bool
    next: bool
    window: RowRange
    temperature: float
    grade: Grade
    deterministic: bool
    def __init__(self, sampled: bool = ..., topk: _Optional[int] = ..., candidates: _Optional[_Union[CandidateIds, _Mapping]] = ..., log_candidates: bool = ..., entropy: bool = ..., tail: _Optional[_Union[TailOf, str]] = ..., samples: _Optional[int] = ..., sample_seed: _Optional[int] = ..., hidden: bool = ..., next: bool = ..., window: _Optional[_Union[RowRange, _Mapping]] = ..., temperature: _Optional[float] = ..., grade: _Optional[_Union[Grade, str]] = ..., deterministic: bool = ...) -> None: ...

class Payload(_message.Message):
    __slots__ = ("grade", "width", "offsets_u32le", "values", "bases_f16le", "steps_f16le", "ids_low_u16le", "ids_high_u8")
    GRADE_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    OFFSETS_U32LE_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    BASES_F16LE_FIELD_NUMBER: _ClassVar[int]
    STEPS_F16LE_FIELD_NUMBER: _ClassVar[int]
    IDS_LOW_U16LE_FIELD_NUMBER: _ClassVar[int]
    IDS_HIGH_U8_FIELD_NUMBER: _ClassVar[int]
    grade: Grade
    width: int
    offsets_u32le: bytes
    values: bytes
    bases_f16le: bytes
    steps_f16le: bytes
    ids_low_u16le: bytes
    ids_high_u8: bytes
    def __init__(self, grade: _Optional[_Union[Grade, str]] = ..., width: _Optional[int] = ..., offsets_u32le: _Optional[bytes] = ..., values: _Optional[bytes] = ..., bases_f16le: _Optional[bytes] = ..., steps_f16le: _Optional[bytes] = ..., ids_low_u16le: _Optional[bytes] = ..., ids_high_u8: _Optional[bytes] = ...) -> None: ...

class HiddenStates(_message.Message):
    __slots__ = ("dtype", "width", "values", "head_sha256")
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    HEAD_SHA256_FIELD_NUMBER: _ClassVar[int]
    dtype: Dtype
    width: int
    values: bytes
    head_sha256: bytes
    def __init__(self, dtype: _Optional[_Union[Dtype, str]] = ..., width: _Optional[int] = ..., values: _Optional[bytes] = ..., head_sha256: _Optional[bytes] = ...) -> None: ...

class Rows(_message.Message):
    __slots__ = ("start", "count", "validity", "sampled_f32le", "entropy_f32le", "tail_f32le", "topk", "candidates", "samples", "hidden", "has_next")
    START_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    VALIDITY_FIELD_NUMBER: _ClassVar[int]
    SAMPLED_F32LE_FIELD_NUMBER: _ClassVar[int]
    ENTROPY_F32LE_FIELD_NUMBER: _ClassVar[int]
    TAIL_F32LE_FIELD_NUMBER: _ClassVar[int]
    TOPK_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    HIDDEN_FIELD_NUMBER: _ClassVar[int]
    HAS_NEXT_FIELD_NUMBER: _ClassVar[int]
    start: int
    count: int
    validity: bytes
    sampled_f32le: bytes
    entropy_f32le: bytes
    tail_f32le: bytes
    topk: Payload
    candidates: Payload
    samples: Payload
    hidden: HiddenStates
    has_next: bool
    def __init__(self, start: _Optional[int] = ..., count: _Optional[int] = ..., validity: _Optional[bytes] = ..., sampled_f32le: _Optional[bytes] = ..., entropy_f32le: _Optional[bytes] = ..., tail_f32le: _Optional[bytes] = ..., topk: _Optional[_Union[Payload, _Mapping]] = ..., candidates: _Optional[_Union[Payload, _Mapping]] = ..., samples: _Optional[_Union[Payload, _Mapping]] = ..., hidden: _Optional[_Union[HiddenStates, _Mapping]] = ..., has_next: bool = ...) -> None: ...

class TimeSplit(_message.Message):
    __slots__ = ("queued_s", "prefill_s", "readout_s", "serialise_s")
    QUEUED_S_FIELD_NUMBER: _ClassVar[int]
    PREFILL_S_FIELD_NUMBER: _ClassVar[int]
    READOUT_S_FIELD_NUMBER: _ClassVar[int]
    SERIALISE_S_FIELD_NUMBER: _ClassVar[int]
    queued_s: float
    prefill_s: float
    readout_s: float
    serialise_s: float
    def __init__(self, queued_s: _Optional[float] = ..., prefill_s: _Optional[float] = ..., readout_s: _Optional[float] = ..., serialise_s: _Optional[float] = ...) -> None: ...

class Receipt(_message.Message):
    __slots__ = ("model", "tokenizer_sha256", "template_sha256", "engine", "engine_version", "numerics_version", "dtype", "temperature", "grade", "error_bound_nats", "clipped_low", "tokens_computed", "tokens_reused", "tokens_recomputed", "cache", "time", "head_sha256")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TOKENIZER_SHA256_FIELD_NUMBER: _ClassVar[int]
    TEMPLATE_SHA256_FIELD_NUMBER: _ClassVar[int]
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    ENGINE_VERSION_FIELD_NUMBER: _ClassVar[int]
    NUMERICS_VERSION_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    GRADE_FIELD_NUMBER: _ClassVar[int]
    ERROR_BOUND_NATS_FIELD_NUMBER: _ClassVar[int]
    CLIPPED_LOW_FIELD_NUMBER: _ClassVar[int]
    TOKENS_COMPUTED_FIELD_NUMBER: _ClassVar[int]
    TOKENS_REUSED_FIELD_NUMBER: _ClassVar[int]
    TOKENS_RECOMPUTED_FIELD_NUMBER: _ClassVar[int]
    CACHE_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    HEAD_SHA256_FIELD_NUMBER: _ClassVar[int]
    model: ModelRef
    tokenizer_sha256: bytes
    template_sha256: bytes
    engine: str
    engine_version: str
    numerics_version: str
    dtype: str
    temperature: float
    grade: Grade
    error_bound_nats: float
    clipped_low: int
    tokens_computed: int
    tokens_reused: int
    tokens_recomputed: int
    cache: CacheTier
    time: TimeSplit
    head_sha256: bytes
    def __init__(self, model: _Optional[_Union[ModelRef, _Mapping]] = ..., tokenizer_sha256: _Optional[bytes] = ..., template_sha256: _Optional[bytes] = ..., engine: _Optional[str] = ..., engine_version: _Optional[str] = ..., numerics_version: _Optional[str] = ..., dtype: _Optional[str] = ..., temperature: _Optional[float] = ..., grade: _Optional[_Union[Grade, str]] = ..., error_bound_nats: _Optional[float] = ..., clipped_low: _Optional[int] = ..., tokens_computed: _Optional[int] = ..., tokens_reused: _Optional[int] = ..., tokens_recomputed: _Optional[int] = ..., cache: _Optional[_Union[CacheTier, str]] = ..., time: _Optional[_Union[TimeSplit, _Mapping]] = ..., head_sha256: _Optional[bytes] = ...) -> None: ...

class AdapterRef(_message.Message):
    __slots__ = ("name", "manifest_sha256")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_SHA256_FIELD_NUMBER: _ClassVar[int]
    name: str
    manifest_sha256: bytes
    def __init__(self, name: _Optional[str] = ..., manifest_sha256: _Optional[bytes] = ...) -> None: ...

class ModelRef(_message.Message):
    __slots__ = ("name", "run", "epoch", "step", "manifest_sha256", "adapter")
    NAME_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_SHA256_FIELD_NUMBER: _ClassVar[int]
    ADAPTER_FIELD_NUMBER: _ClassVar[int]
    name: str
    run: str
    epoch: int
    step: int
    manifest_sha256: bytes
    adapter: AdapterRef
    def __init__(self, name: _Optional[str] = ..., run: _Optional[str] = ..., epoch: _Optional[int] = ..., step: _Optional[int] = ..., manifest_sha256: _Optional[bytes] = ..., adapter: _Optional[_Union[AdapterRef, _Mapping]] = ...) -> None: ...

class ModelChoice(_message.Message):
    __slots__ = ("teacher", "latest", "exact")
    TEACHER_FIELD_NUMBER: _ClassVar[int]
    LATEST_FIELD_NUMBER: _ClassVar[int]
    EXACT_FIELD_NUMBER: _ClassVar[int]
    teacher: str
    latest: bool
    exact: ModelRef
    def __init__(self, teacher: _Optional[str] = ..., latest: bool = ..., exact: _Optional[_Union[ModelRef, _Mapping]] = ...) -> None: ...

class RolloutId(_message.Message):
    __slots__ = ("run", "step", "prompt", "sample", "attempt")
    RUN_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    run: str
    step: int
    prompt: int
    sample: int
    attempt: int
    def __init__(self, run: _Optional[str] = ..., step: _Optional[int] = ..., prompt: _Optional[int] = ..., sample: _Optional[int] = ..., attempt: _Optional[int] = ...) -> None: ...

class Behaviour(_message.Message):
    __slots__ = ("versions_u32le", "provenance_u8", "logprob_policy_f32le", "logprob_behaviour_f32le", "kv_mixed_u8")
    VERSIONS_U32LE_FIELD_NUMBER: _ClassVar[int]
    PROVENANCE_U8_FIELD_NUMBER: _ClassVar[int]
    LOGPROB_POLICY_F32LE_FIELD_NUMBER: _ClassVar[int]
    LOGPROB_BEHAVIOUR_F32LE_FIELD_NUMBER: _ClassVar[int]
    KV_MIXED_U8_FIELD_NUMBER: _ClassVar[int]
    versions_u32le: bytes
    provenance_u8: bytes
    logprob_policy_f32le: bytes
    logprob_behaviour_f32le: bytes
    kv_mixed_u8: bytes
    def __init__(self, versions_u32le: _Optional[bytes] = ..., provenance_u8: _Optional[bytes] = ..., logprob_policy_f32le: _Optional[bytes] = ..., logprob_behaviour_f32le: _Optional[bytes] = ..., kv_mixed_u8: _Optional[bytes] = ...) -> None: ...

class Capabilities(_message.Message):
    __slots__ = ("sampled", "max_topk", "max_candidates_per_row", "entropy", "tail", "max_samples", "hidden", "next", "deterministic", "streaming", "grades", "max_sequence_tokens", "row_cost", "several_versions", "adapters", "generate", "judge", "own_logprobs", "echo_logprobs", "structured_output", "seeds", "graders", "embeddings", "stepping_graders")
    SAMPLED_FIELD_NUMBER: _ClassVar[int]
    MAX_TOPK_FIELD_NUMBER: _ClassVar[int]
    MAX_CANDIDATES_PER_ROW_FIELD_NUMBER: _ClassVar[int]
    ENTROPY_FIELD_NUMBER: _ClassVar[int]
    TAIL_FIELD_NUMBER: _ClassVar[int]
    MAX_SAMPLES_FIELD_NUMBER: _ClassVar[int]
    HIDDEN_FIELD_NUMBER: _ClassVar[int]
    NEXT_FIELD_NUMBER: _ClassVar[int]
    DETERMINISTIC_FIELD_NUMBER: _ClassVar[int]
    STREAMING_FIELD_NUMBER: _ClassVar[int]
    GRADES_FIELD_NUMBER: _ClassVar[int]
    MAX_SEQUENCE_TOKENS_FIELD_NUMBER: _ClassVar[int]
    ROW_COST_FIELD_NUMBER: _ClassVar[int]
    SEVERAL_VERSIONS_FIELD_NUMBER: _ClassVar[int]
    ADAPTERS_FIELD_NUMBER: _ClassVar[int]
    GENERATE_FIELD_NUMBER: _ClassVar[int]
    JUDGE_FIELD_NUMBER: _ClassVar[int]
    OWN_LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    ECHO_LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    STRUCTURED_OUTPUT_FIELD_NUMBER: _ClassVar[int]
    SEEDS_FIELD_NUMBER: _ClassVar[int]
    GRADERS_FIELD_NUMBER: _ClassVar[int]
    EMBEDDINGS_FIELD_NUMBER: _ClassVar[int]
    STEPPING_GRADERS_FIELD_NUMBER: _ClassVar[int]
    sampled: bool
    max_topk: int
    max_candidates_per_row: int
    entropy: bool
    tail: bool
    max_samples: int
    hidden: bool
    next: bool
    deterministic: bool
    streaming: bool
    grades: _containers.RepeatedScalarFieldContainer[Grade]
    max_sequence_tokens: int
    row_cost: float
    several_versions: bool
    adapters: bool
    generate: bool
    judge: bool
    own_logprobs: bool
    echo_logprobs: bool
    structured_output: bool
    seeds: bool
    graders: _containers.RepeatedScalarFieldContainer[str]
    embeddings: bool
    stepping_graders: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, sampled: bool = ..., max_topk: _Optional[int] = ..., max_candidates_per_row: _Optional[int] = ..., entropy: bool = ..., tail: bool = ..., max_samples: _Optional[int] = ..., hidden: bool = ..., next: bool = ..., deterministic: bool = ..., streaming: bool = ..., grades: _Optional[_Iterable[_Union[Grade, str]]] = ..., max_sequence_tokens: _Optional[int] = ..., row_cost: _Optional[float] = ..., several_versions: bool = ..., adapters: bool = ..., generate: bool = ..., judge: bool = ..., own_logprobs: bool = ..., echo_logprobs: bool = ..., structured_output: bool = ..., seeds: bool = ..., graders: _Optional[_Iterable[str]] = ..., embeddings: bool = ..., stepping_graders: _Optional[_Iterable[str]] = ...) -> None: ...

class ModelInfo(_message.Message):
    __slots__ = ("model", "aliases", "tokenizer_sha256", "template_sha256", "tokenizer_size", "head_rows", "dtype", "engine", "engine_version", "numerics_version", "head_sha256", "noise_floor_nats", "capabilities")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ALIASES_FIELD_NUMBER: _ClassVar[int]
    TOKENIZER_SHA256_FIELD_NUMBER: _ClassVar[int]
    TEMPLATE_SHA256_FIELD_NUMBER: _ClassVar[int]
    TOKENIZER_SIZE_FIELD_NUMBER: _ClassVar[int]
    HEAD_ROWS_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    ENGINE_VERSION_FIELD_NUMBER: _ClassVar[int]
    NUMERICS_VERSION_FIELD_NUMBER: _ClassVar[int]
    HEAD_SHA256_FIELD_NUMBER: _ClassVar[int]
    NOISE_FLOOR_NATS_FIELD_NUMBER: _ClassVar[int]
    CAPABILITIES_FIELD_NUMBER: _ClassVar[int]
    model: ModelRef
    aliases: _containers.RepeatedScalarFieldContainer[str]
    tokenizer_sha256: bytes
    template_sha256: bytes
    tokenizer_size: int
    head_rows: int
    dtype: str
    engine: str
    engine_version: str
    numerics_version: str
    head_sha256: bytes
    noise_floor_nats: float
    capabilities: Capabilities
    def __init__(self, model: _Optional[_Union[ModelRef, _Mapping]] = ..., aliases: _Optional[_Iterable[str]] = ..., tokenizer_sha256: _Optional[bytes] = ..., template_sha256: _Optional[bytes] = ..., tokenizer_size: _Optional[int] = ..., head_rows: _Optional[int] = ..., dtype: _Optional[str] = ..., engine: _Optional[str] = ..., engine_version: _Optional[str] = ..., numerics_version: _Optional[str] = ..., head_sha256: _Optional[bytes] = ..., noise_floor_nats: _Optional[float] = ..., capabilities: _Optional[_Union[Capabilities, _Mapping]] = ...) -> None: ...

class ErrorDetail(_message.Message):
    __slots__ = ("code", "field", "value", "limit", "hint", "retry_after_ms", "queue_position", "message")
    CODE_FIELD_NUMBER: _ClassVar[int]
    FIELD_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    HINT_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    QUEUE_POSITION_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    code: ErrorCode
    field: str
    value: str
    limit: str
    hint: str
    retry_after_ms: int
    queue_position: int
    message: str
    def __init__(self, code: _Optional[_Union[ErrorCode, str]] = ..., field: _Optional[str] = ..., value: _Optional[str] = ..., limit: _Optional[str] = ..., hint: _Optional[str] = ..., retry_after_ms: _Optional[int] = ..., queue_position: _Optional[int] = ..., message: _Optional[str] = ...) -> None: ...
