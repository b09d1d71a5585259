from preceptor_proto.v1 import common_pb2 as _common_pb2
from preceptor_proto.v1 import limits_pb2 as _limits_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SwapPolicy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SWAP_POLICY_FINISH: _ClassVar[SwapPolicy]
    SWAP_POLICY_REPREFILL: _ClassVar[SwapPolicy]
    SWAP_POLICY_MIX: _ClassVar[SwapPolicy]
SWAP_POLICY_FINISH: SwapPolicy
SWAP_POLICY_REPREFILL: SwapPolicy
SWAP_POLICY_MIX: SwapPolicy

class RolloutDescribeRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class RolloutDescribeReply(_message.Message):
    __slots__ = ("student", "state", "eos_ids", "guided", "environments")
    STUDENT_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    EOS_IDS_FIELD_NUMBER: _ClassVar[int]
    GUIDED_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENTS_FIELD_NUMBER: _ClassVar[int]
    student: _common_pb2.ModelInfo
    state: _common_pb2.ServiceState
    eos_ids: _containers.RepeatedScalarFieldContainer[int]
    guided: bool
    environments: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, student: _Optional[_Union[_common_pb2.ModelInfo, _Mapping]] = ..., state: _Optional[_Union[_common_pb2.ServiceState, str]] = ..., eos_ids: _Optional[_Iterable[int]] = ..., guided: bool = ..., environments: _Optional[_Iterable[str]] = ...) -> None: ...

class ChatMessage(_message.Message):
    __slots__ = ("role", "content")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    role: str
    content: str
    def __init__(self, role: _Optional[str] = ..., content: _Optional[str] = ...) -> None: ...

class Conversation(_message.Message):
    __slots__ = ("messages", "add_generation_prompt")
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    ADD_GENERATION_PROMPT_FIELD_NUMBER: _ClassVar[int]
    messages: _containers.RepeatedCompositeFieldContainer[ChatMessage]
    add_generation_prompt: bool
    def __init__(self, messages: _Optional[_Iterable[_Union[ChatMessage, _Mapping]]] = ..., add_generation_prompt: bool = ...) -> None: ...

class RenderItem(_message.Message):
    __slots__ = ("conversation", "text", "after_reply")
    CONVERSATION_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    AFTER_REPLY_FIELD_NUMBER: _ClassVar[int]
    conversation: Conversation
    text: str
    after_reply: Conversation
    def __init__(self, conversation: _Optional[_Union[Conversation, _Mapping]] = ..., text: _Optional[str] = ..., after_reply: _Optional[_Union[Conversation, _Mapping]] = ...) -> None: ...

class RenderRequest(_message.Message):
    __slots__ = ("items",)
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[RenderItem]
    def __init__(self, items: _Optional[_Iterable[_Union[RenderItem, _Mapping]]] = ...) -> None: ...

class RenderReply(_message.Message):
    __slots__ = ("ids", "tokenizer_sha256", "template_sha256")
    IDS_FIELD_NUMBER: _ClassVar[int]
    TOKENIZER_SHA256_FIELD_NUMBER: _ClassVar[int]
    TEMPLATE_SHA256_FIELD_NUMBER: _ClassVar[int]
    ids: _containers.RepeatedCompositeFieldContainer[_common_pb2.TokenIds]
    tokenizer_sha256: bytes
    template_sha256: bytes
    def __init__(self, ids: _Optional[_Iterable[_Union[_common_pb2.TokenIds, _Mapping]]] = ..., tokenizer_sha256: _Optional[bytes] = ..., template_sha256: _Optional[bytes] = ...) -> None: ...

class PiecesRequest(_message.Message):
    __slots__ = ("ids",)
    IDS_FIELD_NUMBER: _ClassVar[int]
    ids: _containers.RepeatedCompositeFieldContainer[_common_pb2.TokenIds]
    def __init__(self, ids: _Optional[_Iterable[_Union[_common_pb2.TokenIds, _Mapping]]] = ...) -> None: ...

class TokenPieces(_message.Message):
    __slots__ = ("utf8", "special_u8")
    UTF8_FIELD_NUMBER: _ClassVar[int]
    SPECIAL_U8_FIELD_NUMBER: _ClassVar[int]
    utf8: _containers.RepeatedScalarFieldContainer[bytes]
    special_u8: bytes
    def __init__(self, utf8: _Optional[_Iterable[bytes]] = ..., special_u8: _Optional[bytes] = ...) -> None: ...

class PiecesReply(_message.Message):
    __slots__ = ("pieces", "tokenizer_sha256")
    PIECES_FIELD_NUMBER: _ClassVar[int]
    TOKENIZER_SHA256_FIELD_NUMBER: _ClassVar[int]
    pieces: _containers.RepeatedCompositeFieldContainer[TokenPieces]
    tokenizer_sha256: bytes
    def __init__(self, pieces: _Optional[_Iterable[_Union[TokenPieces, _Mapping]]] = ..., tokenizer_sha256: _Optional[bytes] = ...) -> None: ...

class Sampling(_message.Message):
    __slots__ = ("temperature", "top_p", "top_k", "max_new_tokens", "stop", "extra_stop_ids", "ignore_eos")
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    TOP_P_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    MAX_NEW_TOKENS_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    EXTRA_STOP_IDS_FIELD_NUMBER: _ClassVar[int]
    IGNORE_EOS_FIELD_NUMBER: _ClassVar[int]
    temperature: float
    top_p: float
    top_k: int
    max_new_tokens: int
    stop: _containers.RepeatedScalarFieldContainer[str]
    extra_stop_ids: _containers.RepeatedScalarFieldContainer[int]
    ignore_eos: bool
    def __init__(self, temperature: _Optional[float] = ..., top_p: _Optional[float] = ..., top_k: _Optional[int] = ..., max_new_tokens: _Optional[int] = ..., stop: _Optional[_Iterable[str]] = ..., extra_stop_ids: _Optional[_Iterable[int]] = ..., ignore_eos: bool = ...) -> None: ...

class GeneratePrompt(_message.Message):
    __slots__ = ("prompt", "context", "samples", "first_sample", "attempt", "teacher_context", "first_row", "task_json")
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    FIRST_SAMPLE_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    TEACHER_CONTEXT_FIELD_NUMBER: _ClassVar[int]
    FIRST_ROW_FIELD_NUMBER: _ClassVar[int]
    TASK_JSON_FIELD_NUMBER: _ClassVar[int]
    prompt: int
    context: _common_pb2.TokenIds
    samples: int
    first_sample: int
    attempt: int
    teacher_context: _common_pb2.TokenIds
    first_row: int
    task_json: str
    def __init__(self, prompt: _Optional[int] = ..., context: _Optional[_Union[_common_pb2.TokenIds, _Mapping]] = ..., samples: _Optional[int] = ..., first_sample: _Optional[int] = ..., attempt: _Optional[int] = ..., teacher_context: _Optional[_Union[_common_pb2.TokenIds, _Mapping]] = ..., first_row: _Optional[int] = ..., task_json: _Optional[str] = ...) -> None: ...

class EnvironmentUse(_message.Message):
    __slots__ = ("name", "max_turns", "max_observation_tokens")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MAX_TURNS_FIELD_NUMBER: _ClassVar[int]
    MAX_OBSERVATION_TOKENS_FIELD_NUMBER: _ClassVar[int]
    name: str
    max_turns: int
    max_observation_tokens: int
    def __init__(self, name: _Optional[str] = ..., max_turns: _Optional[int] = ..., max_observation_tokens: _Optional[int] = ...) -> None: ...

class GenerateRequest(_message.Message):
    __slots__ = ("run", "step", "prompts", "sampling", "seed", "student_topk", "deterministic", "write_logs", "job", "min_weight_step", "policy_json", "environment")
    RUN_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    PROMPTS_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    STUDENT_TOPK_FIELD_NUMBER: _ClassVar[int]
    DETERMINISTIC_FIELD_NUMBER: _ClassVar[int]
    WRITE_LOGS_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    MIN_WEIGHT_STEP_FIELD_NUMBER: _ClassVar[int]
    POLICY_JSON_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    run: str
    step: int
    prompts: _containers.RepeatedCompositeFieldContainer[GeneratePrompt]
    sampling: Sampling
    seed: int
    student_topk: int
    deterministic: bool
    write_logs: bool
    job: str
    min_weight_step: int
    policy_json: str
    environment: EnvironmentUse
    def __init__(self, run: _Optional[str] = ..., step: _Optional[int] = ..., prompts: _Optional[_Iterable[_Union[GeneratePrompt, _Mapping]]] = ..., sampling: _Optional[_Union[Sampling, _Mapping]] = ..., seed: _Optional[int] = ..., student_topk: _Optional[int] = ..., deterministic: bool = ..., write_logs: bool = ..., job: _Optional[str] = ..., min_weight_step: _Optional[int] = ..., policy_json: _Optional[str] = ..., environment: _Optional[_Union[EnvironmentUse, _Mapping]] = ...) -> None: ...

class RolloutResult(_message.Message):
    __slots__ = ("id", "sequence", "behaviour", "student_topk", "finish_reason", "text", "model", "reward")
    ID_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    BEHAVIOUR_FIELD_NUMBER: _ClassVar[int]
    STUDENT_TOPK_FIELD_NUMBER: _ClassVar[int]
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    REWARD_FIELD_NUMBER: _ClassVar[int]
    id: _common_pb2.RolloutId
    sequence: _common_pb2.Sequence
    behaviour: _common_pb2.Behaviour
    student_topk: _common_pb2.CandidateIds
    finish_reason: _common_pb2.FinishReason
    text: str
    model: _common_pb2.ModelRef
    reward: float
    def __init__(self, id: _Optional[_Union[_common_pb2.RolloutId, _Mapping]] = ..., sequence: _Optional[_Union[_common_pb2.Sequence, _Mapping]] = ..., behaviour: _Optional[_Union[_common_pb2.Behaviour, _Mapping]] = ..., student_topk: _Optional[_Union[_common_pb2.CandidateIds, _Mapping]] = ..., finish_reason: _Optional[_Union[_common_pb2.FinishReason, str]] = ..., text: _Optional[str] = ..., model: _Optional[_Union[_common_pb2.ModelRef, _Mapping]] = ..., reward: _Optional[float] = ...) -> None: ...

class GenerateReply(_message.Message):
    __slots__ = ("rollout", "failure")
    ROLLOUT_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    rollout: RolloutResult
    failure: RolloutFailure
    def __init__(self, rollout: _Optional[_Union[RolloutResult, _Mapping]] = ..., failure: _Optional[_Union[RolloutFailure, _Mapping]] = ...) -> None: ...

class RolloutFailure(_message.Message):
    __slots__ = ("id", "error")
    ID_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    id: _common_pb2.RolloutId
    error: _common_pb2.ErrorDetail
    def __init__(self, id: _Optional[_Union[_common_pb2.RolloutId, _Mapping]] = ..., error: _Optional[_Union[_common_pb2.ErrorDetail, _Mapping]] = ...) -> None: ...

class LogEntry(_message.Message):
    __slots__ = ("schema", "offset", "segment", "close", "behaviour", "candidates")
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    CLOSE_FIELD_NUMBER: _ClassVar[int]
    BEHAVIOUR_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    schema: int
    offset: int
    segment: _common_pb2.Segment
    close: LogClose
    behaviour: _common_pb2.Behaviour
    candidates: _common_pb2.CandidateIds
    def __init__(self, schema: _Optional[int] = ..., offset: _Optional[int] = ..., segment: _Optional[_Union[_common_pb2.Segment, _Mapping]] = ..., close: _Optional[_Union[LogClose, _Mapping]] = ..., behaviour: _Optional[_Union[_common_pb2.Behaviour, _Mapping]] = ..., candidates: _Optional[_Union[_common_pb2.CandidateIds, _Mapping]] = ...) -> None: ...

class LogClose(_message.Message):
    __slots__ = ("finish_reason",)
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    finish_reason: _common_pb2.FinishReason
    def __init__(self, finish_reason: _Optional[_Union[_common_pb2.FinishReason, str]] = ...) -> None: ...

class WeightVersion(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: _common_pb2.ModelRef
    def __init__(self, model: _Optional[_Union[_common_pb2.ModelRef, _Mapping]] = ...) -> None: ...

class LoadWeightsRequest(_message.Message):
    __slots__ = ("version", "policy")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    version: WeightVersion
    policy: SwapPolicy
    def __init__(self, version: _Optional[_Union[WeightVersion, _Mapping]] = ..., policy: _Optional[_Union[SwapPolicy, str]] = ...) -> None: ...

class LoadWeightsReply(_message.Message):
    __slots__ = ("model", "load_s")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    LOAD_S_FIELD_NUMBER: _ClassVar[int]
    model: _common_pb2.ModelRef
    load_s: float
    def __init__(self, model: _Optional[_Union[_common_pb2.ModelRef, _Mapping]] = ..., load_s: _Optional[float] = ...) -> None: ...
