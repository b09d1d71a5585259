"""`is_match`: whether a response is right."""

from typing import Literal

Match = Literal["last_word", "exact"]


def is_match(response: str, answer: str, match: Match) -> bool:
    """True when the response ends with (`last_word`) or is (`exact`) this answer; spaces around either do not count."""
    if match == "exact":
        return response.strip() == answer.strip()
    words = response.split()
    return bool(words) and words[-1] == answer.strip()
