"""How each dialect tells an error: its own fields, and ours beside them."""

from __future__ import annotations

from preceptor.errors import PreceptorError
from preceptor_serving.doors.rest_errors import error_body

TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "invalid_request_error",
    422: "invalid_request_error",
    429: "rate_limit_error",
}


def openai_error(error: PreceptorError) -> dict[str, object]:
    """OpenAI's and vLLM's: clients show `error.message`, `param` and `code`."""
    kind = TYPES.get(error.spec.http_status, "server_error" if error.spec.http_status >= 500 else "api_error")
    told = {"message": _sentence(error), "type": kind, "param": error.field or None, "code": error.code.value}
    return {"error": told, **error_body(error)}


def sglang_error(error: PreceptorError) -> dict[str, object]:
    """SGLang's: one object with one sentence."""
    return {"error": {"message": _sentence(error)}, **error_body(error)}


def trl_error(error: PreceptorError) -> dict[str, object]:
    """FastAPI's own, which TRL's server leaves as it is."""
    return {"detail": _sentence(error), **error_body(error)}


def _sentence(error: PreceptorError) -> str:
    """Clients of these dialects show nothing but this, so field, limit and hint are in it."""
    facts = [f"field {error.field}" if error.field else "", f"limit {error.limit}" if error.limit else "", error.hint]
    told = "; ".join(filter(None, facts))
    return f"{error.message} ({told})" if told else error.message
