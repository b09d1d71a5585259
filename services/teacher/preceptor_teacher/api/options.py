"""How one provider is reached. Everything comes from the operator's file: no request can name a URL, a price or a key.

teachers:
  judge:
    engine: api
    base_url: https://provider.example/v1
    model: their-name-of-the-model
    api_key_env: PROVIDER_KEY        # or api_key_file: /run/secrets/provider-key
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import httpx
from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints, field_validator, model_validator
from pydantic_core import PydanticCustomError

from preceptor.errors import ConfigurationError
from preceptor.planning import Price
from preceptor.redaction import remember_secret
from preceptor_teacher.options import checked

MIB = 1 << 20
Url = Annotated[str, StringConstraints(pattern=r"^https?://[^/@?#\s]+(/[^@?#\s]*)?$")]
WireName = Literal["openai", "openai-completions", "azure", "anthropic"]
Usd = Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)]


class EmbeddingOptions(BaseModel):
    """The provider's model that makes vectors of texts."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, hide_input_in_errors=True)

    model: str = Field(min_length=1)
    """What the provider calls it; at Azure the deployment."""

    dimensions: int = Field(ge=1, le=65_536)
    """How long its vectors are: a reply of another length is no vector."""

    usd_per_million: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """What the provider takes for a million tokens; needed where there is a price."""

    @property
    def price(self) -> Price | None:
        usd = self.usd_per_million
        return None if usd is None else Price(prompt_usd_per_million=usd, completion_usd_per_million=0.0)


class ApiOptions(BaseModel):
    """One provider."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, hide_input_in_errors=True)

    base_url: Url
    """Up to and including the version, such as https://provider.example/v1; no user, no query. Azure: up to the host."""

    model: str = Field(min_length=1)
    """What the provider calls the model; at Azure the deployment."""

    wire: WireName = "openai"
    """The provider's shape: chat or plain completions as OpenAI and many others speak them, Azure's paths, or Anthropic's."""

    api_version: str | None = Field(default=None, pattern=r"^[A-Za-z0-9._-]+$")
    """Azure's version of the interface; only there, and needed there."""

    api_key_env: str | None = Field(default=None, min_length=1)
    """Environment variable that holds the key."""

    api_key_file: Path | None = None
    """File that holds the key."""

    private_hosts: tuple[str, ...] = ()
    """Hosts, as base_url spells them, whose addresses may be private or loopback; others are refused before a connection."""

    timeout_s: float = Field(default=60.0, gt=0, le=3600)
    """Longest wait for the reply to one attempt."""

    deadline_s: float = Field(default=300.0, gt=0, le=24 * 3600)
    """Longest time for one answer: all its attempts, and the waits for room and before attempts."""

    max_concurrency: int = Field(default=16, ge=1, le=1024)
    """Requests under way at once, of all jobs and of all services that share a Redis together."""

    requests_per_minute: int = Field(default=0, ge=0)
    """Requests of all services that share a Redis together; 0: the provider has no such limit."""

    tokens_per_minute: int = Field(default=0, ge=0)
    """The same for tokens that are read and written."""

    max_attempts: int = Field(default=6, ge=1, le=100)
    """How often one request is sent at most."""

    retry_share: float = Field(default=0.2, ge=0, le=10)
    """Second and further attempts of all requests together, as a part of the first ones; ten are lent at the beginning."""

    retry_budget_s: float = Field(default=60.0, ge=0, le=3600)
    """Longest time that one request spends in pauses between attempts; an advised wait beyond it ends the request."""

    breaker_failures: int = Field(default=5, ge=1, le=1000)
    """So many failures in a row, and nothing is sent for a while; then one request tries whether the provider is back."""

    breaker_open_s: float = Field(default=5.0, gt=0, le=3600)
    """How long nothing is sent; doubled, up to twelve times that, for each trial that fails."""

    max_reply_tokens: int = Field(default=256, ge=1, le=65_536)
    """Longest reply that is asked for."""

    token_limit_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"  # noqa: S105 - a field's name
    """What the provider's chat calls that bound."""

    temperature: float | None = Field(default=0.0, ge=0, le=2)
    """Sent with each request, but never to Anthropic, whose newest models take none; null: not sent."""

    seed: int | None = Field(default=None, ge=0, le=2**31 - 1)
    """Sent with each request where the provider takes seeds; unset: not sent."""

    probe: bool = False
    """Whether the provider is asked a few tiny questions at the start, to find out what it serves; Describe says what that is."""

    structured_output: bool = True
    """Whether the provider is sent the JSON schema of the reply; replies are checked here in any case."""

    embedding: EmbeddingOptions | None = None
    """The provider's model that makes vectors of texts, for graders that compare by them; unset: they are refused."""

    price: Price | None = None
    """What the provider takes for a million tokens; unset: costs are unknown, and no budget can be set."""

    job_budget_usd: Usd | None = None
    """What one job may cost here; what would go beyond it is not sent."""

    budget_usd: Usd | None = None
    """The same for all jobs together."""

    ledger_folder: Path | None = None
    """Folder where calls, costs and replies outlive the process; services of one machine may share it. Unset: memory only."""

    reply_cache_bytes: int = Field(default=256 * MIB, ge=0)
    """Replies that are kept, so that an equal request is not paid again; 0: none."""

    @field_validator("base_url")
    @classmethod
    def _is_url(cls, url: str) -> str:
        try:
            httpx.URL(url)
        except httpx.InvalidURL:
            raise PydanticCustomError("url", "is no URL that can be reached") from None
        return url

    @model_validator(mode="after")
    def _one_key(self) -> Self:
        if self.api_key_env is not None and self.api_key_file is not None:
            raise PydanticCustomError("key", "api_key_env and api_key_file exclude each other")
        return self

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.wire == "azure") != (self.api_version is not None):
            raise PydanticCustomError("azure", "api_version goes with wire azure, and wire azure needs it")
        if self.price is None and (self.job_budget_usd is not None or self.budget_usd is not None):
            raise PydanticCustomError("price", "a budget needs a price")
        if self.embedding is not None and self.wire == "anthropic":
            raise PydanticCustomError("embedding", "wire anthropic has no embeddings")
        if self.embedding is not None and (self.price is None) != (self.embedding.usd_per_million is None):
            raise PydanticCustomError("embedding", "embedding.usd_per_million goes with price, and price needs it")
        return self

    def key(self, environ: Mapping[str, str] = os.environ) -> SecretStr | None:
        """The key, from now on redacted wherever it might be shown; `ConfigurationError` where it was promised and is missing."""
        found = ""
        if self.api_key_env is not None:
            found = environ.get(self.api_key_env, "")
        elif self.api_key_file is not None:
            found = _content(self.api_key_file)
        else:
            return None
        if not found.strip():
            where = self.api_key_env or str(self.api_key_file)
            raise ConfigurationError(
                f"{where} holds no key", field="api_key_env" if self.api_key_env else "api_key_file", value=where
            )
        remember_secret(found.strip())
        return SecretStr(found.strip())


def read_api_options(name: str, entry: Mapping[str, Any], root: Path) -> ApiOptions:
    """The options of a teacher of that name; relative files and folders lie beside the file they are named in."""
    return checked(ApiOptions, name, entry, root, ("api_key_file", "ledger_folder"))


def _content(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error.__class__.__name__}", field="api_key_file", value=path) from None
