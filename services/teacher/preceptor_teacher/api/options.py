"""How one provider is reached. Everything comes from the operator's file: no request can name a URL or a key.

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
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from preceptor.errors import ConfigurationError
from preceptor.redaction import remember_secret

Url = Annotated[str, StringConstraints(pattern=r"^https?://[^/@?#\s]+(/[^@?#\s]*)?$")]


class ApiOptions(BaseModel):
    """One provider of chat completions in the OpenAI shape."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, hide_input_in_errors=True)

    base_url: Url
    """Up to and including the version, such as https://provider.example/v1; no user, no query."""

    model: str = Field(min_length=1)
    """What the provider calls the model."""

    api_key_env: str | None = Field(default=None, min_length=1)
    """Environment variable that holds the key."""

    api_key_file: Path | None = None
    """File that holds the key."""

    timeout_s: float = Field(default=60.0, gt=0, le=3600)
    """Longest wait for one reply."""

    max_concurrency: int = Field(default=16, ge=1, le=1024)
    """Requests under way at once, of all jobs together."""

    max_attempts: int = Field(default=6, ge=1, le=100)
    """How often one request is sent at most."""

    retry_budget_s: float = Field(default=60.0, ge=0, le=3600)
    """Longest time that one request spends in pauses between attempts; an advised wait beyond it ends the request."""

    max_reply_tokens: int = Field(default=256, ge=1, le=65_536)
    """Longest reply that is asked for."""

    structured_output: bool = True
    """Whether the provider is sent the JSON schema of the reply; replies are checked here in any case."""

    @model_validator(mode="after")
    def _one_key(self) -> Self:
        if self.api_key_env is not None and self.api_key_file is not None:
            raise PydanticCustomError("key", "api_key_env and api_key_file exclude each other")
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
    """The options of a teacher of that name; a relative key file lies beside the file it is named in."""
    values = dict(entry)
    if isinstance(values.get("api_key_file"), str):
        values["api_key_file"] = root / values["api_key_file"]
    try:
        return ApiOptions.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        field = ".".join(("teachers", name, *(str(part) for part in first["loc"])))
        raise ConfigurationError(f"{field}: {first['msg']}", field=field) from None


def _content(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error.__class__.__name__}", field="api_key_file", value=path) from None
