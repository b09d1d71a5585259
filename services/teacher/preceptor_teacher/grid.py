"""The grid of deterministic mode: scores are computed, committed and remembered by cells of this many tokens, from index 0."""

CELL_TOKENS = 32


def complete_tokens(tokens: int) -> int:
    """How many of the first tokens stand in complete cells."""
    return tokens - tokens % CELL_TOKENS
