"""The process that reads mathematics: JSON lines in, JSON lines out, one at a time, until its input ends.

It has no environment, a bound on its memory and no connection. Whoever started it kills it when a line takes too long.
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

    def decide(reference: str, response: str) -> dict[str, Any]:
        right = cast(list[Any], parse(f"${reference}$", parsing_timeout=NO_LIMIT))
        if not right:
            return {"same": None}
        found = cast(list[Any], parse(response, parsing_timeout=NO_LIMIT))
        return {"same": bool(verify(right, found, timeout_seconds=NO_LIMIT)), "found": bool(found)}

    _answer({"ready": True})
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            _answer(decide(asked["reference"], asked["response"]))
        except MemoryError:
            _answer({"same": False, "found": True})
        except Exception:
            _answer({"same": False, "found": False})


def _answer(value: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
