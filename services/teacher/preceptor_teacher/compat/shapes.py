"""How each dialect tells an error: its own fields, and ours beside them."""

from __future__ import annotations

from preceptor.error_details import error_body
from preceptor.errors import PreceptorError

TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "invalid_request_error",
    422: "invalid_request_error",
    429: "rate_limit_error",
}
ANTHROPIC_TYPES = {413: "request_too_large", 503: "overloaded_error", 504: "timeout_error"}


def openai_error(error: PreceptorError) -> dict[str, object]:
    """OpenAI's and vLLM's: clients show `error.message`, `param` and `code`."""
    kind = _kind(error) or ("server_error" if error.spec.http_status >= 500 else "api_error")
    told = {"message": _sentence(error), "type": kind, "param": error.field or None, "code": error.code.value}
    return {"error": told, **error_body(error)}


def anthropic_error(error: PreceptorError) -> dict[str, object]:
    """Anthropic's: its client tells the kinds apart by the status and shows the whole body."""
    kind = ANTHROPIC_TYPES.get(error.spec.http_status) or _kind(error) or "api_error"
    return {"type": "error", "error": {"type": kind, "message": _sentence(error)}, **error_body(error)}


def sglang_error(error: PreceptorError) -> dict[str, object]:
    """SGLang's: one object with one sentence."""
    return {"error": {"message": _sentence(error)}, **error_body(error)}


def trl_error(error: PreceptorError) -> dict[str, object]:
    """FastAPI's own, which TRL's server leaves as it is."""
    return {"detail": _sentence(error), **error_body(error)}


def _kind(error: PreceptorError) -> str | None:
    return TYPES.get(error.spec.http_status)


def _sentence(error: PreceptorError) -> str:
    """Clients of these dialects show nothing but this, so field, limit and hint are in it."""
    facts = [f"field {error.field}" if error.field else "", f"limit {error.limit}" if error.limit else "", error.hint]
    told = "; ".join(filter(None, facts))
    return f"{error.message} ({told})" if told else error.message
