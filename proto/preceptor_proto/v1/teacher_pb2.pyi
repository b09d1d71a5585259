from preceptor_proto.v1 import common_pb2 as _common_pb2
from preceptor_proto.v1 import limits_pb2 as _limits_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class TeacherState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TEACHER_STATE_UNSPECIFIED: _ClassVar[TeacherState]
    TEACHER_STATE_STARTING: _ClassVar[TeacherState]
    TEACHER_STATE_SERVING: _ClassVar[TeacherState]
    TEACHER_STATE_DRAINING: _ClassVar[TeacherState]
    TEACHER_STATE_DEAD: _ClassVar[TeacherState]
TEACHER_STATE_UNSPECIFIED: TeacherState
TEACHER_STATE_STARTING: TeacherState
TEACHER_STATE_SERVING: TeacherState
TEACHER_STATE_DRAINING: TeacherState
TEACHER_STATE_DEAD: TeacherState

class DescribeRequest(_message.Message):
    __slots__ = ("teacher",)
    TEACHER_FIELD_NUMBER: _ClassVar[int]
    teacher: str
    def __init__(self, teacher: _Optional[str] = ...) -> None: ...

class DescribeReply(_message.Message):
    __slots__ = ("teachers",)
    TEACHERS_FIELD_NUMBER: _ClassVar[int]
    teachers: _containers.RepeatedCompositeFieldContainer[_common_pb2.ModelInfo]
    def __init__(self, teachers: _Optional[_Iterable[_Union[_common_pb2.ModelInfo, _Mapping]]] = ...) -> None: ...

class ScoreItem(_message.Message):
    __slots__ = ("sequence", "want")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    WANT_FIELD_NUMBER: _ClassVar[int]
    sequence: _common_pb2.Sequence
    want: _common_pb2.Want
    def __init__(self, sequence: _Optional[_Union[_common_pb2.Sequence, _Mapping]] = ..., want: _Optional[_Union[_common_pb2.Want, _Mapping]] = ...) -> None: ...

class ScoreRequest(_message.Message):
    __slots__ = ("teacher", "items", "tokenizer_sha256", "job", "band", "template_sha256")
    TEACHER_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    TOKENIZER_SHA256_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    BAND_FIELD_NUMBER: _ClassVar[int]
    TEMPLATE_SHA256_FIELD_NUMBER: _ClassVar[int]
    teacher: _common_pb2.ModelChoice
    items: _containers.RepeatedCompositeFieldContainer[ScoreItem]
    tokenizer_sha256: bytes
    job: str
    band: int
    template_sha256: bytes
    def __init__(self, teacher: _Optional[_Union[_common_pb2.ModelChoice, _Mapping]] = ..., items: _Optional[_Iterable[_Union[ScoreItem, _Mapping]]] = ..., tokenizer_sha256: _Optional[bytes] = ..., job: _Optional[str] = ..., band: _Optional[int] = ..., template_sha256: _Optional[bytes] = ...) -> None: ...

class ScoreResult(_message.Message):
    __slots__ = ("rows", "error", "receipt")
    ROWS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    rows: _common_pb2.Rows
    error: _common_pb2.ErrorDetail
    receipt: _common_pb2.Receipt
    def __init__(self, rows: _Optional[_Union[_common_pb2.Rows, _Mapping]] = ..., error: _Optional[_Union[_common_pb2.ErrorDetail, _Mapping]] = ..., receipt: _Optional[_Union[_common_pb2.Receipt, _Mapping]] = ...) -> None: ...

class ScoreReply(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[ScoreResult]
    def __init__(self, results: _Optional[_Iterable[_Union[ScoreResult, _Mapping]]] = ...) -> None: ...

class TurnContext(_message.Message):
    __slots__ = ("turn", "context")
    TURN_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    turn: int
    context: _common_pb2.TokenIds
    def __init__(self, turn: _Optional[int] = ..., context: _Optional[_Union[_common_pb2.TokenIds, _Mapping]] = ...) -> None: ...

class ScoreTask(_message.Message):
    __slots__ = ("schema", "task_id", "rollout", "inline", "texts", "teacher", "context", "turn_contexts", "want", "band", "deadline_unix_ms", "trace", "tokenizer_sha256", "grade")
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    ROLLOUT_FIELD_NUMBER: _ClassVar[int]
    INLINE_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    TEACHER_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    TURN_CONTEXTS_FIELD_NUMBER: _ClassVar[int]
    WANT_FIELD_NUMBER: _ClassVar[int]
    BAND_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    TRACE_FIELD_NUMBER: _ClassVar[int]
    TOKENIZER_SHA256_FIELD_NUMBER: _ClassVar[int]
    GRADE_FIELD_NUMBER: _ClassVar[int]
    schema: int
    task_id: str
    rollout: _common_pb2.RolloutId
    inline: _common_pb2.Sequence
    texts: GradeItems
    teacher: _common_pb2.ModelChoice
    context: _common_pb2.TokenIds
    turn_contexts: _containers.RepeatedCompositeFieldContainer[TurnContext]
    want: _common_pb2.Want
    band: int
    deadline_unix_ms: int
    trace: str
    tokenizer_sha256: bytes
    grade: GradeSpec
    def __init__(self, schema: _Optional[int] = ..., task_id: _Optional[str] = ..., rollout: _Optional[_Union[_common_pb2.RolloutId, _Mapping]] = ..., inline: _Optional[_Union[_common_pb2.Sequence, _Mapping]] = ..., texts: _Optional[_Union[GradeItems, _Mapping]] = ..., teacher: _Optional[_Union[_common_pb2.ModelChoice, _Mapping]] = ..., context: _Optional[_Union[_common_pb2.TokenIds, _Mapping]] = ..., turn_contexts: _Optional[_Iterable[_Union[TurnContext, _Mapping]]] = ..., want: _Optional[_Union[_common_pb2.Want, _Mapping]] = ..., band: _Optional[int] = ..., deadline_unix_ms: _Optional[int] = ..., trace: _Optional[str] = ..., tokenizer_sha256: _Optional[bytes] = ..., grade: _Optional[_Union[GradeSpec, _Mapping]] = ...) -> None: ...

class BlobRef(_message.Message):
    __slots__ = ("key", "payload_bytes", "sha256")
    KEY_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_BYTES_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    key: str
    payload_bytes: int
    sha256: bytes
    def __init__(self, key: _Optional[str] = ..., payload_bytes: _Optional[int] = ..., sha256: _Optional[bytes] = ...) -> None: ...

class Envelope(_message.Message):
    __slots__ = ("schema", "task_id", "rows", "blob", "error", "verdict", "grades", "trace", "receipt", "finished")
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    BLOB_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    GRADES_FIELD_NUMBER: _ClassVar[int]
    TRACE_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    schema: int
    task_id: str
    rows: _common_pb2.Rows
    blob: BlobRef
    error: _common_pb2.ErrorDetail
    verdict: Verdict
    grades: GradeReply
    trace: str
    receipt: _common_pb2.Receipt
    finished: bool
    def __init__(self, schema: _Optional[int] = ..., task_id: _Optional[str] = ..., rows: _Optional[_Union[_common_pb2.Rows, _Mapping]] = ..., blob: _Optional[_Union[BlobRef, _Mapping]] = ..., error: _Optional[_Union[_common_pb2.ErrorDetail, _Mapping]] = ..., verdict: _Optional[_Union[Verdict, _Mapping]] = ..., grades: _Optional[_Union[GradeReply, _Mapping]] = ..., trace: _Optional[str] = ..., receipt: _Optional[_Union[_common_pb2.Receipt, _Mapping]] = ..., finished: bool = ...) -> None: ...

class DeadLetter(_message.Message):
    __slots__ = ("task", "reason", "attempts", "trace", "died_unix_ms")
    TASK_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    TRACE_FIELD_NUMBER: _ClassVar[int]
    DIED_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    task: ScoreTask
    reason: _common_pb2.ErrorDetail
    attempts: int
    trace: str
    died_unix_ms: int
    def __init__(self, task: _Optional[_Union[ScoreTask, _Mapping]] = ..., reason: _Optional[_Union[_common_pb2.ErrorDetail, _Mapping]] = ..., attempts: _Optional[int] = ..., trace: _Optional[str] = ..., died_unix_ms: _Optional[int] = ...) -> None: ...

class Criterion(_message.Message):
    __slots__ = ("name", "text", "weight")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    name: str
    text: str
    weight: float
    def __init__(self, name: _Optional[str] = ..., text: _Optional[str] = ..., weight: _Optional[float] = ...) -> None: ...

class GradeSpec(_message.Message):
    __slots__ = ("grader", "parameters_json", "criteria")
    GRADER_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_JSON_FIELD_NUMBER: _ClassVar[int]
    CRITERIA_FIELD_NUMBER: _ClassVar[int]
    grader: str
    parameters_json: str
    criteria: _containers.RepeatedCompositeFieldContainer[Criterion]
    def __init__(self, grader: _Optional[str] = ..., parameters_json: _Optional[str] = ..., criteria: _Optional[_Iterable[_Union[Criterion, _Mapping]]] = ...) -> None: ...

class GradeItem(_message.Message):
    __slots__ = ("prompt", "response", "reference", "group", "unsure_at")
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    UNSURE_AT_FIELD_NUMBER: _ClassVar[int]
    prompt: str
    response: str
    reference: str
    group: str
    unsure_at: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, prompt: _Optional[str] = ..., response: _Optional[str] = ..., reference: _Optional[str] = ..., group: _Optional[str] = ..., unsure_at: _Optional[_Iterable[int]] = ...) -> None: ...

class GradeItems(_message.Message):
    __slots__ = ("items",)
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[GradeItem]
    def __init__(self, items: _Optional[_Iterable[_Union[GradeItem, _Mapping]]] = ...) -> None: ...

class CriterionVerdict(_message.Message):
    __slots__ = ("name", "validity", "score", "reason", "text", "weight")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALIDITY_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    name: str
    validity: _common_pb2.Validity
    score: float
    reason: str
    text: str
    weight: float
    def __init__(self, name: _Optional[str] = ..., validity: _Optional[_Union[_common_pb2.Validity, str]] = ..., score: _Optional[float] = ..., reason: _Optional[str] = ..., text: _Optional[str] = ..., weight: _Optional[float] = ...) -> None: ...

class Verdict(_message.Message):
    __slots__ = ("validity", "reward", "criteria", "critique", "step_rewards_f32le", "receipt", "cost_usd", "calls", "prompt_tokens", "completion_tokens", "reason", "step_ends_u32le", "step_rows_u32le", "agreement")
    VALIDITY_FIELD_NUMBER: _ClassVar[int]
    REWARD_FIELD_NUMBER: _ClassVar[int]
    CRITERIA_FIELD_NUMBER: _ClassVar[int]
    CRITIQUE_FIELD_NUMBER: _ClassVar[int]
    STEP_REWARDS_F32LE_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    COST_USD_FIELD_NUMBER: _ClassVar[int]
    CALLS_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    COMPLETION_TOKENS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    STEP_ENDS_U32LE_FIELD_NUMBER: _ClassVar[int]
    STEP_ROWS_U32LE_FIELD_NUMBER: _ClassVar[int]
    AGREEMENT_FIELD_NUMBER: _ClassVar[int]
    validity: _common_pb2.Validity
    reward: float
    criteria: _containers.RepeatedCompositeFieldContainer[CriterionVerdict]
    critique: str
    step_rewards_f32le: bytes
    receipt: _common_pb2.Receipt
    cost_usd: float
    calls: int
    prompt_tokens: int
    completion_tokens: int
    reason: str
    step_ends_u32le: bytes
    step_rows_u32le: bytes
    agreement: float
    def __init__(self, validity: _Optional[_Union[_common_pb2.Validity, str]] = ..., reward: _Optional[float] = ..., criteria: _Optional[_Iterable[_Union[CriterionVerdict, _Mapping]]] = ..., critique: _Optional[str] = ..., step_rewards_f32le: _Optional[bytes] = ..., receipt: _Optional[_Union[_common_pb2.Receipt, _Mapping]] = ..., cost_usd: _Optional[float] = ..., calls: _Optional[int] = ..., prompt_tokens: _Optional[int] = ..., completion_tokens: _Optional[int] = ..., reason: _Optional[str] = ..., step_ends_u32le: _Optional[bytes] = ..., step_rows_u32le: _Optional[bytes] = ..., agreement: _Optional[float] = ...) -> None: ...

class GradeRequest(_message.Message):
    __slots__ = ("teacher", "spec", "items", "job")
    TEACHER_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    teacher: _common_pb2.ModelChoice
    spec: GradeSpec
    items: _containers.RepeatedCompositeFieldContainer[GradeItem]
    job: str
    def __init__(self, teacher: _Optional[_Union[_common_pb2.ModelChoice, _Mapping]] = ..., spec: _Optional[_Union[GradeSpec, _Mapping]] = ..., items: _Optional[_Iterable[_Union[GradeItem, _Mapping]]] = ..., job: _Optional[str] = ...) -> None: ...

class GradeResult(_message.Message):
    __slots__ = ("verdict", "error")
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    verdict: Verdict
    error: _common_pb2.ErrorDetail
    def __init__(self, verdict: _Optional[_Union[Verdict, _Mapping]] = ..., error: _Optional[_Union[_common_pb2.ErrorDetail, _Mapping]] = ...) -> None: ...

class GradeReply(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[GradeResult]
    def __init__(self, results: _Optional[_Iterable[_Union[GradeResult, _Mapping]]] = ...) -> None: ...

class DrainRequest(_message.Message):
    __slots__ = ("teacher", "undo", "stop")
    TEACHER_FIELD_NUMBER: _ClassVar[int]
    UNDO_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    teacher: str
    undo: bool
    stop: bool
    def __init__(self, teacher: _Optional[str] = ..., undo: bool = ..., stop: bool = ...) -> None: ...

class DrainReply(_message.Message):
    __slots__ = ("draining", "tasks", "leases")
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    TASKS_FIELD_NUMBER: _ClassVar[int]
    LEASES_FIELD_NUMBER: _ClassVar[int]
    draining: _containers.RepeatedScalarFieldContainer[str]
    tasks: int
    leases: int
    def __init__(self, draining: _Optional[_Iterable[str]] = ..., tasks: _Optional[int] = ..., leases: _Optional[int] = ...) -> None: ...

class StatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class FlowStatus(_message.Message):
    __slots__ = ("tenant", "job", "band", "weight", "queued_tasks", "queued_cost", "virtual_time", "oldest_wait_s", "served_tokens", "teacher", "eta_s")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    BAND_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    QUEUED_TASKS_FIELD_NUMBER: _ClassVar[int]
    QUEUED_COST_FIELD_NUMBER: _ClassVar[int]
    VIRTUAL_TIME_FIELD_NUMBER: _ClassVar[int]
    OLDEST_WAIT_S_FIELD_NUMBER: _ClassVar[int]
    SERVED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TEACHER_FIELD_NUMBER: _ClassVar[int]
    ETA_S_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    job: str
    band: int
    weight: float
    queued_tasks: int
    queued_cost: float
    virtual_time: float
    oldest_wait_s: float
    served_tokens: int
    teacher: str
    eta_s: float
    def __init__(self, tenant: _Optional[str] = ..., job: _Optional[str] = ..., band: _Optional[int] = ..., weight: _Optional[float] = ..., queued_tasks: _Optional[int] = ..., queued_cost: _Optional[float] = ..., virtual_time: _Optional[float] = ..., oldest_wait_s: _Optional[float] = ..., served_tokens: _Optional[int] = ..., teacher: _Optional[str] = ..., eta_s: _Optional[float] = ...) -> None: ...

class QueueStatus(_message.Message):
    __slots__ = ("teacher", "tenant", "job", "ready_tasks", "suspect_tasks", "leased_tasks", "unread_results", "unread_bytes", "dead_letters")
    TEACHER_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    READY_TASKS_FIELD_NUMBER: _ClassVar[int]
    SUSPECT_TASKS_FIELD_NUMBER: _ClassVar[int]
    LEASED_TASKS_FIELD_NUMBER: _ClassVar[int]
    UNREAD_RESULTS_FIELD_NUMBER: _ClassVar[int]
    UNREAD_BYTES_FIELD_NUMBER: _ClassVar[int]
    DEAD_LETTERS_FIELD_NUMBER: _ClassVar[int]
    teacher: str
    tenant: str
    job: str
    ready_tasks: int
    suspect_tasks: int
    leased_tasks: int
    unread_results: int
    unread_bytes: int
    dead_letters: int
    def __init__(self, teacher: _Optional[str] = ..., tenant: _Optional[str] = ..., job: _Optional[str] = ..., ready_tasks: _Optional[int] = ..., suspect_tasks: _Optional[int] = ..., leased_tasks: _Optional[int] = ..., unread_results: _Optional[int] = ..., unread_bytes: _Optional[int] = ..., dead_letters: _Optional[int] = ...) -> None: ...

class EngineStatus(_message.Message):
    __slots__ = ("teacher", "up", "restarts", "waiting_tasks", "running_tasks", "tokens_computed", "tokens_reused", "cache_hits", "cache_misses", "cost_per_s")
    TEACHER_FIELD_NUMBER: _ClassVar[int]
    UP_FIELD_NUMBER: _ClassVar[int]
    RESTARTS_FIELD_NUMBER: _ClassVar[int]
    WAITING_TASKS_FIELD_NUMBER: _ClassVar[int]
    RUNNING_TASKS_FIELD_NUMBER: _ClassVar[int]
    TOKENS_COMPUTED_FIELD_NUMBER: _ClassVar[int]
    TOKENS_REUSED_FIELD_NUMBER: _ClassVar[int]
    CACHE_HITS_FIELD_NUMBER: _ClassVar[int]
    CACHE_MISSES_FIELD_NUMBER: _ClassVar[int]
    COST_PER_S_FIELD_NUMBER: _ClassVar[int]
    teacher: str
    up: bool
    restarts: int
    waiting_tasks: int
    running_tasks: int
    tokens_computed: int
    tokens_reused: int
    cache_hits: int
    cache_misses: int
    cost_per_s: float
    def __init__(self, teacher: _Optional[str] = ..., up: bool = ..., restarts: _Optional[int] = ..., waiting_tasks: _Optional[int] = ..., running_tasks: _Optional[int] = ..., tokens_computed: _Optional[int] = ..., tokens_reused: _Optional[int] = ..., cache_hits: _Optional[int] = ..., cache_misses: _Optional[int] = ..., cost_per_s: _Optional[float] = ...) -> None: ...

class TeacherStanding(_message.Message):
    __slots__ = ("teacher", "state", "heard_s")
    TEACHER_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    HEARD_S_FIELD_NUMBER: _ClassVar[int]
    teacher: str
    state: TeacherState
    heard_s: float
    def __init__(self, teacher: _Optional[str] = ..., state: _Optional[_Union[TeacherState, str]] = ..., heard_s: _Optional[float] = ...) -> None: ...

class BudgetStatus(_message.Message):
    __slots__ = ("teacher", "tenant", "job", "calls", "spent_usd", "reserved_usd", "lost_usd", "limit_usd")
    TEACHER_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    CALLS_FIELD_NUMBER: _ClassVar[int]
    SPENT_USD_FIELD_NUMBER: _ClassVar[int]
    RESERVED_USD_FIELD_NUMBER: _ClassVar[int]
    LOST_USD_FIELD_NUMBER: _ClassVar[int]
    LIMIT_USD_FIELD_NUMBER: _ClassVar[int]
    teacher: str
    tenant: str
    job: str
    calls: int
    spent_usd: float
    reserved_usd: float
    lost_usd: float
    limit_usd: float
    def __init__(self, teacher: _Optional[str] = ..., tenant: _Optional[str] = ..., job: _Optional[str] = ..., calls: _Optional[int] = ..., spent_usd: _Optional[float] = ..., reserved_usd: _Optional[float] = ..., lost_usd: _Optional[float] = ..., limit_usd: _Optional[float] = ...) -> None: ...

class TeacherStatus(_message.Message):
    __slots__ = ("state", "teachers", "flows", "worker", "engines", "queues", "reasons", "standings", "budgets")
    class ReasonsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    STATE_FIELD_NUMBER: _ClassVar[int]
    TEACHERS_FIELD_NUMBER: _ClassVar[int]
    FLOWS_FIELD_NUMBER: _ClassVar[int]
    WORKER_FIELD_NUMBER: _ClassVar[int]
    ENGINES_FIELD_NUMBER: _ClassVar[int]
    QUEUES_FIELD_NUMBER: _ClassVar[int]
    REASONS_FIELD_NUMBER: _ClassVar[int]
    STANDINGS_FIELD_NUMBER: _ClassVar[int]
    BUDGETS_FIELD_NUMBER: _ClassVar[int]
    state: _common_pb2.ServiceState
    teachers: _containers.RepeatedCompositeFieldContainer[_common_pb2.ModelInfo]
    flows: _containers.RepeatedCompositeFieldContainer[FlowStatus]
    worker: str
    engines: _containers.RepeatedCompositeFieldContainer[EngineStatus]
    queues: _containers.RepeatedCompositeFieldContainer[QueueStatus]
    reasons: _containers.ScalarMap[str, str]
    standings: _containers.RepeatedCompositeFieldContainer[TeacherStanding]
    budgets: _containers.RepeatedCompositeFieldContainer[BudgetStatus]
    def __init__(self, state: _Optional[_Union[_common_pb2.ServiceState, str]] = ..., teachers: _Optional[_Iterable[_Union[_common_pb2.ModelInfo, _Mapping]]] = ..., flows: _Optional[_Iterable[_Union[FlowStatus, _Mapping]]] = ..., worker: _Optional[str] = ..., engines: _Optional[_Iterable[_Union[EngineStatus, _Mapping]]] = ..., queues: _Optional[_Iterable[_Union[QueueStatus, _Mapping]]] = ..., reasons: _Optional[_Mapping[str, str]] = ..., standings: _Optional[_Iterable[_Union[TeacherStanding, _Mapping]]] = ..., budgets: _Optional[_Iterable[_Union[BudgetStatus, _Mapping]]] = ...) -> None: ...

class LoadVersionRequest(_message.Message):
    __slots__ = ("teacher", "model")
    TEACHER_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    teacher: str
    model: _common_pb2.ModelRef
    def __init__(self, teacher: _Optional[str] = ..., model: _Optional[_Union[_common_pb2.ModelRef, _Mapping]] = ...) -> None: ...

class LoadVersionReply(_message.Message):
    __slots__ = ("info", "load_s")
    INFO_FIELD_NUMBER: _ClassVar[int]
    LOAD_S_FIELD_NUMBER: _ClassVar[int]
    info: _common_pb2.ModelInfo
    load_s: float
    def __init__(self, info: _Optional[_Union[_common_pb2.ModelInfo, _Mapping]] = ..., load_s: _Optional[float] = ...) -> None: ...

class PinVersionRequest(_message.Message):
    __slots__ = ("teacher", "model", "pinned")
    TEACHER_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PINNED_FIELD_NUMBER: _ClassVar[int]
    teacher: str
    model: _common_pb2.ModelRef
    pinned: bool
    def __init__(self, teacher: _Optional[str] = ..., model: _Optional[_Union[_common_pb2.ModelRef, _Mapping]] = ..., pinned: bool = ...) -> None: ...

class PinVersionReply(_message.Message):
    __slots__ = ("held_versions", "pinned_versions")
    HELD_VERSIONS_FIELD_NUMBER: _ClassVar[int]
    PINNED_VERSIONS_FIELD_NUMBER: _ClassVar[int]
    held_versions: int
    pinned_versions: int
    def __init__(self, held_versions: _Optional[int] = ..., pinned_versions: _Optional[int] = ...) -> None: ...

class DropVersionRequest(_message.Message):
    __slots__ = ("teacher", "model")
    TEACHER_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    teacher: str
    model: _common_pb2.ModelRef
    def __init__(self, teacher: _Optional[str] = ..., model: _Optional[_Union[_common_pb2.ModelRef, _Mapping]] = ...) -> None: ...

class DropVersionReply(_message.Message):
    __slots__ = ("held_versions", "pinned_versions")
    HELD_VERSIONS_FIELD_NUMBER: _ClassVar[int]
    PINNED_VERSIONS_FIELD_NUMBER: _ClassVar[int]
    held_versions: int
    pinned_versions: int
    def __init__(self, held_versions: _Optional[int] = ..., pinned_versions: _Optional[int] = ...) -> None: ...
