"""How sequences lie in the rows of one forward pass. The learner cuts micro-batches by it, the student computes by it."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class RowLayout:
    """Rows that are as long as the longest sequence: one for each sequence, or, `packed`, the first in which it still fits."""

    packed: bool = False
    width_tokens: int = 0
    filled_tokens: list[int] = field(default_factory=list[int])

    def add(self, tokens: int) -> tuple[int, int]:
        """The row of the next sequence, and its first column there."""
        self.width_tokens = max(self.width_tokens, tokens)
        row = self._first_with_room(tokens, self.width_tokens)
        if row == len(self.filled_tokens):
            self.filled_tokens.append(0)
        first = self.filled_tokens[row]
        self.filled_tokens[row] += tokens
        return row, first

    def tokens_with(self, tokens: int) -> int:
        """What the pass would hold with one more sequence, padding included."""
        width = max(self.width_tokens, tokens)
        rows = len(self.filled_tokens)
        return width * (rows + (self._first_with_room(tokens, width) == rows))

    def _first_with_room(self, tokens: int, width: int) -> int:
        if not self.packed:
            return len(self.filled_tokens)
        fits = (row for row, filled in enumerate(self.filled_tokens) if filled + tokens <= width)
        return next(fits, len(self.filled_tokens))
