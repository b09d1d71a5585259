"""How a failed command ends: code, message and hint on stderr, and an exit code by the kind of failure."""

from __future__ import annotations

import sys
import traceback

from preceptor.errors import (
    Cancelled,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    PreceptorError,
    Unauthenticated,
    Unsupported,
    WrongPair,
)
from preceptor.redaction import redact_text

EXIT_CALLER_MISTAKE = 2
EXIT_FAILED = 1
EXIT_INTERRUPTED = 130
CALLER_MISTAKES = (InvalidArgument, Unauthenticated, PermissionDenied, NotFound, WrongPair, Unsupported)


def exit_code(error: PreceptorError) -> int:
    """2 where the caller has to change something in the call, 130 for a cancelled one, else 1."""
    if isinstance(error, Cancelled):
        return EXIT_INTERRUPTED
    return EXIT_CALLER_MISTAKE if isinstance(error, CALLER_MISTAKES) else EXIT_FAILED


def print_failure(error: PreceptorError, *, debug: bool) -> None:
    """Code, message and hint on stderr; the traceback only where it was asked for."""
    if debug:
        trace = "".join(traceback.format_exception(error))
        print(redact_text(trace), file=sys.stderr)
    print(_harmless(redact_text(f"{error.code}: {error.message}")), file=sys.stderr)
    if error.hint:
        print(_harmless(redact_text(f"  hint: {error.hint}")), file=sys.stderr)


def _harmless(text: str) -> str:
    """What others chose, such as a name in a file, must not move the cursor or recolour the terminal; lines stay lines."""
    return "".join(one if one.isprintable() or one == "\n" else ascii(one)[1:-1] for one in text)
