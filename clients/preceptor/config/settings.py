"""The knobs, each with its type, bounds, default and help in one place.

A new knob is one annotated field with a docstring in the class of the process that reads it: flag, variable, file key,
`--help`, `config show` and docs/configuration.md follow from it. A knob that every process shares goes to `Settings`.
"""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self
from urllib.parse import parse_qs, urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints, field_validator, model_validator
from pydantic_core import PydanticCustomError

MIB = 1 << 20
LOOPBACK = "127.0.0.1"
GRPC_PORTS = {"teacher": 50051, "rollout": 50052, "student": 50053}
REST_PORTS = {"teacher": 8001, "rollout": 8002, "student": 8003}

Port = Annotated[int, Field(ge=0, le=65_535)]
Text = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]
Seconds = Annotated[float, Field(gt=0, le=7 * 24 * 3600, allow_inf_nan=False)]


class Settings(BaseModel):
    """What every process has: where Redis is, how large a message may be, how it logs."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, hide_input_in_errors=True)
    section: ClassVar[str] = ""

    redis_url: Text | None = None
    """Redis (7.0 or newer) or Valkey behind the durable door, such as redis://127.0.0.1:6379/0; unset: no durable door."""

    redis_password: SecretStr | None = None
    """Password for Redis; it never stands in the URL."""

    max_message_bytes: int = Field(default=64 * MIB, ge=MIB, le=2**31 - 1)
    """Largest single gRPC message or REST body that is sent or accepted."""

    log_format: Literal["auto", "json", "console"] = "auto"
    """auto: readable lines on a terminal, one JSON object a line elsewhere."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Lowest level that is logged."""

    @field_validator("redis_url")
    @classmethod
    def _redis_url_is_safe(cls, url: str | None) -> str | None:
        if url is None:
            return url
        scheme, found, rest = url.partition("://")
        if not found or scheme not in ("redis", "rediss", "unix"):
            raise PydanticCustomError("redis_scheme", "should start with redis://, rediss:// or unix://")
        if ":" in rest.rpartition("@")[0] or "password" in parse_qs(urlsplit(url).query):
            raise PydanticCustomError("redis_secret", "should not carry a password; set redis_password instead")
        try:
            _ = urlsplit(url).port
        except ValueError:
            raise PydanticCustomError("redis_port", "should have a port from 0 to 65535") from None
        return url


class ServiceSettings(Settings):
    """What the teacher, rollout and student services have in common."""

    host: Text = LOOPBACK
    """Address that both doors listen on."""

    grpc_port: Port
    """Port of the gRPC door; 0 takes any free port."""

    rest_port: Port
    """Port of the REST door (health, status, metrics); 0 takes any free port."""

    key_file: Path | None = None
    """File of hashed API keys; unset: everybody is let in, which is allowed on a loopback host only."""

    max_deadline_s: Seconds = 3600.0
    """Longest deadline a request may ask for, and the deadline of one that names none."""

    max_calls: int = Field(default=1024, ge=1, le=100_000)
    """Most calls that are answered at once by both doors together; further ones are told to come back."""

    drain_grace_s: Seconds = 30.0
    """How long a stopping service goes on serving what it has accepted."""

    @model_validator(mode="after")
    def _doors_differ(self) -> Self:
        if self.grpc_port and self.grpc_port == self.rest_port:
            raise _at("rest_port", f"should differ from grpc_port ({self.grpc_port})")
        return self

    @model_validator(mode="after")
    def _open_only_at_home(self) -> Self:
        if self.key_file is None and not is_loopback(self.host):
            raise _at("host", "should be a loopback address while key_file is unset: without keys everybody is let in")
        return self


class SequenceSettings(ServiceSettings):
    """What bounds the services that queue sequences for an engine: the teacher and the rollout service."""

    max_sequence_tokens: int = Field(default=131_072, ge=1)
    """Longest sequence of one request, context included."""

    max_batch_items: int = Field(default=256, ge=1)
    """Most sequences in one request."""

    max_queue_tasks: int = Field(default=10_000, ge=1)
    """Most requests waiting in this process; further ones are told to come back later."""


class TeacherSettings(SequenceSettings):
    """The scoring service."""

    section: ClassVar[str] = "teacher"
    grpc_port: Port = GRPC_PORTS["teacher"]
    rest_port: Port = REST_PORTS["teacher"]

    weights_roots: Text = "runs"
    """Folders under which students publish weights that may teach them, several separated as in PATH; no others are loaded."""

    model: Text | None = None
    """One teacher to serve: a model folder or a hub's OWNER/MODEL@COMMIT, or NAME= one of them; unset: those of teachers_file."""

    teachers_file: Path | None = None
    """File (YAML) that maps the names of teachers to model folders, engines and their options."""

    only: Text | None = None
    """Names of teachers_file that this process serves, separated by commas; unset: all of them."""

    replica: int = Field(default=0, ge=0)
    """Which replica of its teachers this process is, from 0: it takes that one's GPUs; teachers with fewer are left out."""

    gpus_from: Literal["file", "container"] = "file"
    """file: an engine sees the GPUs that teachers_file names for it; container: those that its container was given."""

    score_cache_memory_bytes: int = Field(default=256 * MIB, ge=0)
    """Memory for scores that may be asked for again; 0: none."""

    score_cache_folder: Path | None = None
    """Folder where such scores outlive the process, one for all teachers of a machine; unset: memory only."""

    score_cache_disk_bytes: int = Field(default=4096 * MIB, ge=16 * MIB)
    """Most bytes of the file in score_cache_folder."""


class RolloutSettings(SequenceSettings):
    """The generation service."""

    section: ClassVar[str] = "rollout"
    grpc_port: Port = GRPC_PORTS["rollout"]
    rest_port: Port = REST_PORTS["rollout"]

    model: Text | None = None
    """The student at the start: a model folder, or NAME=FOLDER."""

    engine: Literal["hf", "vllm"] = "hf"
    """What runs the student: hf is transformers, vllm is vLLM, which has to be installed."""

    engine_options: Text = "{}"
    """Further options of the engine as a JSON object; with vllm, the engine arguments of vLLM under their own names."""

    weights_roots: Text = "runs"
    """Folders under which students publish their weights, several separated as in PATH; nothing else is ever loaded."""

    dtype: Literal["f32", "bf16", "f16"] = "f32"
    """Type of the weights and of the forward pass; log-probabilities are always computed in f32."""

    device: Text = "cpu"
    """Where the student runs: cpu, cuda, cuda:1, ..."""

    threads: int = Field(default=1, ge=1, le=1024)
    """CPU threads of the engine; fixed, because the order of sums depends on it."""

    batch_tokens: int = Field(default=32_768, ge=1)
    """Tokens of one batch at its end, contexts included; a single sequence that needs more runs alone."""

    unit_batches: int = Field(default=4, ge=1, le=1024)
    """Batches of sequences in a unit, where waiting ones take the places of those that ended; 1 if deterministic or guided."""

    running_units: int = Field(default=2, ge=1, le=64)
    """Units that are under way at once, in turns: more of them share the engine finer and take more memory."""

    log_chunk_tokens: int = Field(default=32, ge=1)
    """New tokens of a rollout between two appends to its response log."""

    max_versions: int = Field(default=2, ge=1)
    """Versions of the weights that are kept in memory; others are loaded again when they are needed."""

    teacher: Text | None = None
    """gRPC address of the teacher service that behaviour policies ask, several with commas; unset: such policies are refused."""

    environments: Text = "{}"
    """Who may answer the student between turns: {"NAME": {"kind": KIND, "options": {...}}}; requests choose one by its name."""

    environment_step_s: float = Field(default=30.0, gt=0)
    """What an environment may take for one answer; a rollout whose environment takes longer fails."""

    teacher_api_key: SecretStr | None = None
    """Key that is sent to that teacher; what policies score is charged to its tenant."""

    max_batch_items: int = Field(default=16_384, ge=1)
    """Most rollouts in one request."""


class StudentSettings(ServiceSettings):
    """The training service."""

    section: ClassVar[str] = "student"
    grpc_port: Port = GRPC_PORTS["student"]
    rest_port: Port = REST_PORTS["student"]

    model: Text | None = None
    """The model that new runs start from: a model folder, or NAME=FOLDER; published versions carry the name."""

    runs_root: Text = "runs"
    """Folder of all runs: each keeps its checkpoints and published versions under its own name."""

    device: Text = "cpu"
    """Where the student trains: cpu, cuda, cuda:1, ...; under torchrun cpu."""

    threads: int = Field(default=1, ge=1, le=1024)
    """CPU threads of the engine; fixed, because the order of sums depends on it."""

    rank_deadline_s: float = Field(default=300.0, ge=1.0, le=86400.0)
    """Longest that a rank waits for the others under torchrun, when they meet and in every exchange, before all of them end."""

    max_open_runs: int = Field(default=4, ge=1, le=1024)
    """Runs whose weights are in memory at once; one that would lose nothing makes room for a new one."""

    keep_checkpoints: int = Field(default=2, ge=1)
    """Newest checkpoints of each run that stay on disk."""

    keep_versions: int = Field(default=8, ge=1)
    """Newest published versions of each run that stay on disk, beside those that its recipe's open rollouts may still name."""

    teacher_heads: Text | None = None
    """Model folders of teachers, several separated as in PATH: what is trained on hidden states needs the heads behind them."""

    teacher_heads_bytes: int = Field(default=8192 * MIB, ge=MIB)
    """Most memory of these heads; those used longest ago make room."""

    max_step_bytes: int = Field(default=512 * MIB, ge=MIB, le=1000 * MIB)
    """Most bytes of one step, all micro-batches together: they are in memory until the step is applied."""


class ClientSettings(Settings):
    """The SDK, the command line and the learner."""

    section: ClassVar[str] = "client"

    teacher: Text = f"{LOOPBACK}:{GRPC_PORTS['teacher']}"
    """gRPC address of the teacher: host:port, dns:///name:port to spread calls over replicas, or several of them with commas."""

    rollout: Text = f"{LOOPBACK}:{GRPC_PORTS['rollout']}"
    """gRPC address of the rollout service."""

    student: Text = f"{LOOPBACK}:{GRPC_PORTS['student']}"
    """gRPC address of the student service."""

    writers: Text | None = None
    """Who writes with a teacher's weights, MODEL=HOST:PORT separated by commas; MODEL=FOLDER with `learn --inline`."""

    tenant: Text = "local"
    """Tenant of api_key, whose part of the queue a learner reads; local where services run without keys."""

    grade_through: Literal["service", "queue"] = "service"
    """How graders are asked: at the teacher's address, or by tasks of the queue, which any of their services takes over."""

    deadline_s: Seconds = 600.0
    """Deadline of a call that names none."""

    api_key: SecretStr | None = None
    """Key that is sent with every call."""

    prices_file: Path | None = None
    """Table of what teachers behind an API cost (`prices: {NAME: {prompt_usd_per_million, completion_usd_per_million}}`)."""


SETTINGS: dict[str, type[Settings]] = {
    "teacher": TeacherSettings,
    "rollout": RolloutSettings,
    "student": StudentSettings,
    "client": ClientSettings,
}
"""Section of the file -> its settings. A new process adds its class here."""


def is_loopback(host: str) -> bool:
    """True for localhost and for literal loopback addresses; other names may resolve to anything."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _at(field: str, message: str) -> PydanticCustomError:
    """A rule between two fields, reported at the one to change."""
    return PydanticCustomError("rule", "{message}", {"field": field, "message": message})
