"""The process that reads mathematics: JSON lines in, JSON lines out, one at a time, until its input ends.

It has no environment and a bound on its memory. Whoever started it kills it when a line takes too long.
"""

from __future__ import annotations

import json
import logging
import resource
import sys
from typing import Any, cast

NO_LIMIT = 0  # the parsers' own time limits are noticed between bytecodes; a power of powers never gets to the next
MOST_BYTES = 2 << 30  # of address space: sympy and its parsers take a third of it


def main() -> None:
    """Says that it is ready, then answers."""
    resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
    logging.disable(logging.CRITICAL)  # the parsers tell what they could not read, with the text
    from math_verify import parse, verify

    def same(reference: str, response: str) -> bool | None:
        right = cast(list[Any], parse(f"${reference}$", parsing_timeout=NO_LIMIT))
        if not right:
            return None
        return bool(verify(right, cast(list[Any], parse(response, parsing_timeout=NO_LIMIT)), timeout_seconds=NO_LIMIT))

    _answer({"ready": True})
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            _answer({"same": same(asked["reference"], asked["response"])})
        except Exception:  # memory ran out, or the parsers broke: either way this is no right answer
            _answer({"same": False})


def _answer(value: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
