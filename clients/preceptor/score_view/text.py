"""Bytes of tokens to text that is safe to print: a model may write anything, terminal commands included."""

from __future__ import annotations

import codecs
from collections.abc import Sequence

from preceptor.client.rollout import Piece

PART = "⋯"  # a token that ends inside a character; the character stands at the token that completes it
NEWLINE, TAB = "⏎", "⇥"


def readable(pieces: Sequence[Piece]) -> list[str]:
    """The text that each token adds to those before it; `PART` where it completes no character."""
    decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
    texts: list[str] = []
    for piece in pieces:
        if piece.is_special:
            left = decoder.decode(b"", final=True)
            decoder.reset()
            texts.append(left + piece.utf8.decode("utf-8", "backslashreplace"))
        else:
            texts.append(decoder.decode(piece.utf8) or (PART if piece.utf8 else ""))
    return texts


def alone(piece: Piece) -> str:
    """The text of one token by itself; bytes that are no whole character stand as `\\xNN`."""
    return piece.utf8.decode("utf-8", "backslashreplace")


def safe(text: str) -> str:
    """The text with everything that does not print written out, line breaks and tabs as signs."""
    return "".join(map(_safe, text))


def quoted(text: str) -> str:
    """A token in a table: its blanks are seen at its ends."""
    return f"'{safe(text)}'"


def _safe(character: str) -> str:
    if character.isprintable():
        return character
    return {"\n": NEWLINE, "\t": TAB}.get(character) or character.encode("unicode_escape").decode()
