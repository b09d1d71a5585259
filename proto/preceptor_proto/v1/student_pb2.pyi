from preceptor_proto.v1 import common_pb2 as _common_pb2
from preceptor_proto.v1 import limits_pb2 as _limits_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class StudentStatusRequest(_message.Message):
    __slots__ = ("run",)
    RUN_FIELD_NUMBER: _ClassVar[int]
    run: str
    def __init__(self, run: _Optional[str] = ...) -> None: ...

class StudentStatus(_message.Message):
    __slots__ = ("run", "epoch", "applied_step", "durable_step", "state", "published", "applied_batch_sha256", "copies", "device")
    class CopiesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: _common_pb2.ModelRef
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[_common_pb2.ModelRef, _Mapping]] = ...) -> None: ...
    RUN_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    APPLIED_STEP_FIELD_NUMBER: _ClassVar[int]
    DURABLE_STEP_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    PUBLISHED_FIELD_NUMBER: _ClassVar[int]
    APPLIED_BATCH_SHA256_FIELD_NUMBER: _ClassVar[int]
    COPIES_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    run: str
    epoch: int
    applied_step: int
    durable_step: int
    state: _common_pb2.ServiceState
    published: _common_pb2.ModelRef
    applied_batch_sha256: bytes
    copies: _containers.MessageMap[str, _common_pb2.ModelRef]
    device: str
    def __init__(self, run: _Optional[str] = ..., epoch: _Optional[int] = ..., applied_step: _Optional[int] = ..., durable_step: _Optional[int] = ..., state: _Optional[_Union[_common_pb2.ServiceState, str]] = ..., published: _Optional[_Union[_common_pb2.ModelRef, _Mapping]] = ..., applied_batch_sha256: _Optional[bytes] = ..., copies: _Optional[_Mapping[str, _common_pb2.ModelRef]] = ..., device: _Optional[str] = ...) -> None: ...

class OpenRunRequest(_message.Message):
    __slots__ = ("run", "config_json", "restore_step", "head_sha256")
    RUN_FIELD_NUMBER: _ClassVar[int]
    CONFIG_JSON_FIELD_NUMBER: _ClassVar[int]
    RESTORE_STEP_FIELD_NUMBER: _ClassVar[int]
    HEAD_SHA256_FIELD_NUMBER: _ClassVar[int]
    run: str
    config_json: str
    restore_step: int
    head_sha256: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, run: _Optional[str] = ..., config_json: _Optional[str] = ..., restore_step: _Optional[int] = ..., head_sha256: _Optional[_Iterable[bytes]] = ...) -> None: ...

class ObjectiveSpec(_message.Message):
    __slots__ = ("schema", "json")
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    JSON_FIELD_NUMBER: _ClassVar[int]
    schema: int
    json: str
    def __init__(self, schema: _Optional[int] = ..., json: _Optional[str] = ...) -> None: ...

class StepHeader(_message.Message):
    __slots__ = ("run", "epoch", "step", "batch_sha256", "micro_batches", "objective")
    RUN_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    BATCH_SHA256_FIELD_NUMBER: _ClassVar[int]
    MICRO_BATCHES_FIELD_NUMBER: _ClassVar[int]
    OBJECTIVE_FIELD_NUMBER: _ClassVar[int]
    run: str
    epoch: int
    step: int
    batch_sha256: bytes
    micro_batches: int
    objective: ObjectiveSpec
    def __init__(self, run: _Optional[str] = ..., epoch: _Optional[int] = ..., step: _Optional[int] = ..., batch_sha256: _Optional[bytes] = ..., micro_batches: _Optional[int] = ..., objective: _Optional[_Union[ObjectiveSpec, _Mapping]] = ...) -> None: ...

class TeacherScores(_message.Message):
    __slots__ = ("source", "rows", "receipt", "candidates", "reward", "step_rewards_f32le", "step_rows_u32le")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    REWARD_FIELD_NUMBER: _ClassVar[int]
    STEP_REWARDS_F32LE_FIELD_NUMBER: _ClassVar[int]
    STEP_ROWS_U32LE_FIELD_NUMBER: _ClassVar[int]
    source: str
    rows: _common_pb2.Rows
    receipt: _common_pb2.Receipt
    candidates: _common_pb2.CandidateIds
    reward: float
    step_rewards_f32le: bytes
    step_rows_u32le: bytes
    def __init__(self, source: _Optional[str] = ..., rows: _Optional[_Union[_common_pb2.Rows, _Mapping]] = ..., receipt: _Optional[_Union[_common_pb2.Receipt, _Mapping]] = ..., candidates: _Optional[_Union[_common_pb2.CandidateIds, _Mapping]] = ..., reward: _Optional[float] = ..., step_rewards_f32le: _Optional[bytes] = ..., step_rows_u32le: _Optional[bytes] = ...) -> None: ...

class TrainItem(_message.Message):
    __slots__ = ("id", "sequence", "behaviour", "scores", "weight", "group", "student_topk", "source", "finish_reason")
    ID_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    BEHAVIOUR_FIELD_NUMBER: _ClassVar[int]
    SCORES_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    STUDENT_TOPK_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    id: _common_pb2.RolloutId
    sequence: _common_pb2.Sequence
    behaviour: _common_pb2.Behaviour
    scores: _containers.RepeatedCompositeFieldContainer[TeacherScores]
    weight: float
    group: str
    student_topk: _common_pb2.CandidateIds
    source: str
    finish_reason: _common_pb2.FinishReason
    def __init__(self, id: _Optional[_Union[_common_pb2.RolloutId, _Mapping]] = ..., sequence: _Optional[_Union[_common_pb2.Sequence, _Mapping]] = ..., behaviour: _Optional[_Union[_common_pb2.Behaviour, _Mapping]] = ..., scores: _Optional[_Iterable[_Union[TeacherScores, _Mapping]]] = ..., weight: _Optional[float] = ..., group: _Optional[str] = ..., student_topk: _Optional[_Union[_common_pb2.CandidateIds, _Mapping]] = ..., source: _Optional[str] = ..., finish_reason: _Optional[_Union[_common_pb2.FinishReason, str]] = ...) -> None: ...

class MicroBatch(_message.Message):
    __slots__ = ("items",)
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[TrainItem]
    def __init__(self, items: _Optional[_Iterable[_Union[TrainItem, _Mapping]]] = ...) -> None: ...

class StepMessage(_message.Message):
    __slots__ = ("header", "micro_batch")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    MICRO_BATCH_FIELD_NUMBER: _ClassVar[int]
    header: StepHeader
    micro_batch: MicroBatch
    def __init__(self, header: _Optional[_Union[StepHeader, _Mapping]] = ..., micro_batch: _Optional[_Union[MicroBatch, _Mapping]] = ...) -> None: ...

class StepReply(_message.Message):
    __slots__ = ("applied_step", "durable_step", "repeated_step", "metrics", "valid_rows", "skipped_rows")
    class MetricsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    APPLIED_STEP_FIELD_NUMBER: _ClassVar[int]
    DURABLE_STEP_FIELD_NUMBER: _ClassVar[int]
    REPEATED_STEP_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    VALID_ROWS_FIELD_NUMBER: _ClassVar[int]
    SKIPPED_ROWS_FIELD_NUMBER: _ClassVar[int]
    applied_step: int
    durable_step: int
    repeated_step: bool
    metrics: _containers.ScalarMap[str, float]
    valid_rows: int
    skipped_rows: int
    def __init__(self, applied_step: _Optional[int] = ..., durable_step: _Optional[int] = ..., repeated_step: bool = ..., metrics: _Optional[_Mapping[str, float]] = ..., valid_rows: _Optional[int] = ..., skipped_rows: _Optional[int] = ...) -> None: ...

class CheckpointRequest(_message.Message):
    __slots__ = ("run", "epoch")
    RUN_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    run: str
    epoch: int
    def __init__(self, run: _Optional[str] = ..., epoch: _Optional[int] = ...) -> None: ...

class CheckpointReply(_message.Message):
    __slots__ = ("durable_step", "manifest_sha256")
    DURABLE_STEP_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_SHA256_FIELD_NUMBER: _ClassVar[int]
    durable_step: int
    manifest_sha256: bytes
    def __init__(self, durable_step: _Optional[int] = ..., manifest_sha256: _Optional[bytes] = ...) -> None: ...

class PublishRequest(_message.Message):
    __slots__ = ("run", "epoch")
    RUN_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    run: str
    epoch: int
    def __init__(self, run: _Optional[str] = ..., epoch: _Optional[int] = ...) -> None: ...

class PublishReply(_message.Message):
    __slots__ = ("model", "copies")
    class CopiesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: _common_pb2.ModelRef
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[_common_pb2.ModelRef, _Mapping]] = ...) -> None: ...
    MODEL_FIELD_NUMBER: _ClassVar[int]
    COPIES_FIELD_NUMBER: _ClassVar[int]
    model: _common_pb2.ModelRef
    copies: _containers.MessageMap[str, _common_pb2.ModelRef]
    def __init__(self, model: _Optional[_Union[_common_pb2.ModelRef, _Mapping]] = ..., copies: _Optional[_Mapping[str, _common_pb2.ModelRef]] = ...) -> None: ...

class EvaluateRequest(_message.Message):
    __slots__ = ("run", "objective", "batch")
    RUN_FIELD_NUMBER: _ClassVar[int]
    OBJECTIVE_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    run: str
    objective: ObjectiveSpec
    batch: MicroBatch
    def __init__(self, run: _Optional[str] = ..., objective: _Optional[_Union[ObjectiveSpec, _Mapping]] = ..., batch: _Optional[_Union[MicroBatch, _Mapping]] = ...) -> None: ...

class EvaluateReply(_message.Message):
    __slots__ = ("metrics", "applied_step", "valid_rows", "skipped_rows")
    class MetricsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    METRICS_FIELD_NUMBER: _ClassVar[int]
    APPLIED_STEP_FIELD_NUMBER: _ClassVar[int]
    VALID_ROWS_FIELD_NUMBER: _ClassVar[int]
    SKIPPED_ROWS_FIELD_NUMBER: _ClassVar[int]
    metrics: _containers.ScalarMap[str, float]
    applied_step: int
    valid_rows: int
    skipped_rows: int
    def __init__(self, metrics: _Optional[_Mapping[str, float]] = ..., applied_step: _Optional[int] = ..., valid_rows: _Optional[int] = ..., skipped_rows: _Optional[int] = ...) -> None: ...
