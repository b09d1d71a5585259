"""One error tree for the client, the command line and every service.

PreceptorError
├── InvalidArgument (ValueError)      the request is wrong and will be wrong again: names field, value and limit
│   ├── TooLarge                      ... because it exceeds a size limit
│   └── ConfigurationError            ... because a flag, variable or configuration file is wrong
├── Unauthenticated, PermissionDenied (PermissionError)
├── NotFound (LookupError)
├── Conflict                          the same name with other content; the first one stands
├── Gap                               something before this is missing; send again from ``limit``
├── Fenced                            an older lease or epoch: somebody else has taken over
├── WrongPair                         student and teacher do not share tokenizer or template
├── Unsupported                       this engine cannot serve the want; the hint names teachers that can
├── VersionGone                       the pinned weights are no longer served; open the task again
├── Exhausted                         a queue or quota is full; retry after ``retry_after_s``
├── BudgetSpent                       what a provider may cost has been spent; the operator raises the budget
├── Unavailable (ConnectionError)     starting, draining or degraded; try again
│   └── EngineFailed                  the engine process died under this request; it is being restarted
├── EnvironmentFailed                 what answers the student between turns raised under this rollout
├── DeadlineExceeded (TimeoutError)
├── Cancelled
├── Corrupt (ValueError)              stored or received bytes break the protocol
├── MissingExtra (ImportError)        an optional dependency is not installed; the hint is the pip command
└── Internal                          a defect of Preceptor; please report it

Each error carries a stable ``code`` from the closed set `ErrorCode`. A new code is added in three places that a test holds
together: the enum, its row in `CODES`, and its class; `docs/errors.md` and the protocol's enum are checked against them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar


class ErrorCode(StrEnum):
    """The closed set of stable error codes."""

    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    TOO_LARGE = "TOO_LARGE"
    CONFIGURATION = "CONFIGURATION"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    NOT_FOUND = "NOT_FOUND"
    CONFLICT = "CONFLICT"
    GAP = "GAP"
    FENCED = "FENCED"
    WRONG_PAIR = "WRONG_PAIR"
    UNSUPPORTED = "UNSUPPORTED"
    VERSION_GONE = "VERSION_GONE"
    RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"
    UNAVAILABLE = "UNAVAILABLE"
    ENGINE_FAILED = "ENGINE_FAILED"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    CANCELLED = "CANCELLED"
    CORRUPT = "CORRUPT"
    MISSING_EXTRA = "MISSING_EXTRA"
    INTERNAL = "INTERNAL"
    BUDGET_SPENT = "BUDGET_SPENT"
    ENVIRONMENT_FAILED = "ENVIRONMENT_FAILED"


@dataclass(frozen=True, slots=True)
class CodeSpec:
    """How one code appears on each door, and whether sending the same request again can help."""

    grpc_status: str
    http_status: int
    retryable: bool


CODES: dict[ErrorCode, CodeSpec] = {
    ErrorCode.INVALID_ARGUMENT: CodeSpec("INVALID_ARGUMENT", 400, retryable=False),
    ErrorCode.TOO_LARGE: CodeSpec("INVALID_ARGUMENT", 413, retryable=False),
    ErrorCode.CONFIGURATION: CodeSpec("FAILED_PRECONDITION", 400, retryable=False),
    ErrorCode.UNAUTHENTICATED: CodeSpec("UNAUTHENTICATED", 401, retryable=False),
    ErrorCode.PERMISSION_DENIED: CodeSpec("PERMISSION_DENIED", 403, retryable=False),
    ErrorCode.NOT_FOUND: CodeSpec("NOT_FOUND", 404, retryable=False),
    ErrorCode.CONFLICT: CodeSpec("ALREADY_EXISTS", 409, retryable=False),
    ErrorCode.GAP: CodeSpec("OUT_OF_RANGE", 409, retryable=False),
    ErrorCode.FENCED: CodeSpec("FAILED_PRECONDITION", 409, retryable=False),
    ErrorCode.WRONG_PAIR: CodeSpec("FAILED_PRECONDITION", 409, retryable=False),
    ErrorCode.UNSUPPORTED: CodeSpec("FAILED_PRECONDITION", 422, retryable=False),
    ErrorCode.VERSION_GONE: CodeSpec("ABORTED", 410, retryable=True),
    ErrorCode.RESOURCE_EXHAUSTED: CodeSpec("RESOURCE_EXHAUSTED", 429, retryable=True),
    ErrorCode.UNAVAILABLE: CodeSpec("UNAVAILABLE", 503, retryable=True),
    ErrorCode.ENGINE_FAILED: CodeSpec("UNAVAILABLE", 503, retryable=True),
    ErrorCode.DEADLINE_EXCEEDED: CodeSpec("DEADLINE_EXCEEDED", 504, retryable=False),
    ErrorCode.CANCELLED: CodeSpec("CANCELLED", 499, retryable=False),
    ErrorCode.CORRUPT: CodeSpec("DATA_LOSS", 400, retryable=False),
    ErrorCode.MISSING_EXTRA: CodeSpec("FAILED_PRECONDITION", 501, retryable=False),
    ErrorCode.INTERNAL: CodeSpec("INTERNAL", 500, retryable=False),
    ErrorCode.BUDGET_SPENT: CodeSpec("FAILED_PRECONDITION", 402, retryable=False),
    ErrorCode.ENVIRONMENT_FAILED: CodeSpec("FAILED_PRECONDITION", 502, retryable=False),
}

MAX_SHOWN_VALUE_CHARS = 120


class PreceptorError(Exception):
    """The root: a sentence for people, and a code, field, value, limit and hint for programs."""

    code: ClassVar[ErrorCode] = ErrorCode.INTERNAL

    def __init__(
        self,
        message: str,
        *,
        field: str = "",
        value: object = "",
        limit: object = "",
        hint: str = "",
        retry_after_s: float | None = None,
        queue_position: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.value = shown(value)
        self.limit = shown(limit)
        self.hint = hint
        self.retry_after_s = retry_after_s
        self.queue_position = queue_position

    @property
    def spec(self) -> CodeSpec:
        """How this error's code maps to gRPC and HTTP."""
        return CODES[self.code]

    @property
    def retryable(self) -> bool:
        """True when the same request may succeed later."""
        return self.spec.retryable

    def __str__(self) -> str:
        """The message, then the hint on its own line where there is one."""
        return f"{self.message}\n  hint: {self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        """Errors cross process boundaries as plain fields, never as live objects."""
        parts = (self.field, self.value, self.limit, self.hint, self.retry_after_s, self.queue_position)
        return (error_from_parts, (str(self.code), self.message, *parts))


class InvalidArgument(PreceptorError, ValueError):
    code = ErrorCode.INVALID_ARGUMENT


class TooLarge(InvalidArgument):
    code = ErrorCode.TOO_LARGE


class ConfigurationError(InvalidArgument):
    code = ErrorCode.CONFIGURATION


class Unauthenticated(PreceptorError, PermissionError):
    code = ErrorCode.UNAUTHENTICATED


class PermissionDenied(PreceptorError, PermissionError):
    code = ErrorCode.PERMISSION_DENIED


class NotFound(PreceptorError, LookupError):
    code = ErrorCode.NOT_FOUND


class Conflict(PreceptorError):
    code = ErrorCode.CONFLICT


class Gap(PreceptorError):
    code = ErrorCode.GAP


class Fenced(PreceptorError):
    code = ErrorCode.FENCED


class WrongPair(PreceptorError):
    code = ErrorCode.WRONG_PAIR


class Unsupported(PreceptorError):
    code = ErrorCode.UNSUPPORTED


class VersionGone(PreceptorError):
    code = ErrorCode.VERSION_GONE


class Exhausted(PreceptorError):
    code = ErrorCode.RESOURCE_EXHAUSTED


class BudgetSpent(PreceptorError):
    code = ErrorCode.BUDGET_SPENT


class Unavailable(PreceptorError, ConnectionError):
    code = ErrorCode.UNAVAILABLE


class EngineFailed(Unavailable):
    code = ErrorCode.ENGINE_FAILED


class EnvironmentFailed(PreceptorError):
    code = ErrorCode.ENVIRONMENT_FAILED


class DeadlineExceeded(PreceptorError, TimeoutError):
    code = ErrorCode.DEADLINE_EXCEEDED


class Cancelled(PreceptorError):
    code = ErrorCode.CANCELLED


class Corrupt(PreceptorError, ValueError):
    code = ErrorCode.CORRUPT


class MissingExtra(PreceptorError, ImportError):
    code = ErrorCode.MISSING_EXTRA


class Internal(PreceptorError):
    code = ErrorCode.INTERNAL


def error_classes() -> dict[ErrorCode, type[PreceptorError]]:
    """The class of each code, read off the tree itself."""
    found: dict[ErrorCode, type[PreceptorError]] = {}
    waiting: list[type[PreceptorError]] = [PreceptorError]
    while waiting:
        for child in waiting.pop().__subclasses__():
            found.setdefault(child.code, child)
            waiting.append(child)
    return found


def error_from_code(code: str, message: str, **parts: object) -> PreceptorError:
    """The error of a code received from a peer; a code this version does not know becomes `Internal` and is named."""
    try:
        known = error_classes()[ErrorCode(code)]
    except ValueError:
        return Internal(f"unknown error code {code!r} from the peer: {message}", **parts)  # pyright: ignore[reportArgumentType]
    return known(message, **parts)  # pyright: ignore[reportArgumentType]


def error_from_parts(
    code: str,
    message: str,
    field: str,
    value: str,
    limit: str,
    hint: str,
    retry_after_s: float | None,
    queue_position: int | None,
) -> PreceptorError:
    """The inverse of the flat form that errors take between processes."""
    return error_from_code(
        code,
        message,
        field=field,
        value=value,
        limit=limit,
        hint=hint,
        retry_after_s=retry_after_s,
        queue_position=queue_position,
    )


def shown(value: object) -> str:
    """A value as an error shows it: text, cut where it would flood a log."""
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= MAX_SHOWN_VALUE_CHARS else text[: MAX_SHOWN_VALUE_CHARS - 1] + "…"
