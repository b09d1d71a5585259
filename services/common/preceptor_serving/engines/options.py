"""What an engine can be told: a frozen model of options, read from a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from preceptor.errors import ConfigurationError
from preceptor.suggest import did_you_mean


class EngineOptions(BaseModel):
    """The base of every engine's options; `called` is the engine's name in errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
    called: ClassVar[str]

    @classmethod
    def from_mapping(cls, options: Mapping[str, Any]) -> Self:
        """Options from a configuration; the first wrong one is named."""
        try:
            return cls.model_validate(dict(options))
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"])
            hint = did_you_mean(field, cls.model_fields) if first["type"] == "extra_forbidden" else ""
            message = f"the {cls.called} engine's option {field}: {first['msg']}"
            raise ConfigurationError(message, field=field, value=first.get("input", ""), hint=hint) from error
