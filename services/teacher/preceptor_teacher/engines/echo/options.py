"""What an `echo` engine can be told; `teachers.yaml` ends up here."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, ValidationError

from preceptor.errors import ConfigurationError
from preceptor_serving.engines.options import EngineOptions
from preceptor_teacher.api.options import ApiOptions


class EchoOptions(EngineOptions):
    """One server. Nothing is paid for here: prices and budgets are those of teachers with `engine: api`."""

    called: ClassVar[str] = "echo"

    name: str
    """The name under which the teacher is served."""

    folder: Path
    """Folder with the tokenizer of the model that the server has: tokenizer.json and tokenizer_config.json, no weights."""

    base_url: str
    """Up to and including the version, such as http://10.0.0.5:8000/v1; dialect sglang: up to the host."""

    model: str = Field(min_length=1)
    """What the server calls the model."""

    dialect: Literal["vllm", "openai", "sglang"] = "vllm"
    """vllm: prompt_logprobs of /completions; openai: its echo, without lists of ids; sglang: /generate."""

    max_sequence_tokens: int = Field(ge=2)
    """Longest sequence that is sent: what the server reads, less the one token that it may have to write."""

    max_topk: int = Field(default=20, ge=0, le=1024)
    """Longest list that is asked for; the server is asked at the start how much of it it gives."""

    api_key_env: str | None = Field(default=None, min_length=1)
    """Environment variable that holds the key."""

    api_key_file: Path | None = None
    """File that holds the key."""

    private_hosts: tuple[str, ...] = ()
    """Hosts, as base_url spells them, whose addresses may be private or loopback; others are refused before a connection."""

    timeout_s: float = Field(default=60.0, gt=0, le=3600)
    """Longest wait for the reply to one attempt."""

    max_concurrency: int = Field(default=8, ge=1, le=1024)
    """Sequences that are sent at once."""

    max_attempts: int = Field(default=3, ge=1, le=100)
    """How often one sequence is sent at most."""

    @property
    def api(self) -> ApiOptions:
        """The way to the server, held to the same rules as that to a provider."""
        shared = {name: getattr(self, name) for name in ApiOptions.model_fields.keys() & EchoOptions.model_fields.keys()}
        try:
            return ApiOptions(wire="openai-completions", **shared)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            field = ".".join(str(part) for part in first["loc"])
            raise ConfigurationError(f"the echo engine's option {field}: {first['msg']}", field=field) from None
