"""Digests of a tokenizer and of its chat template: what student and teacher must share, computed alike in every service.

The tokenizer digest is over what each id *stands for*, not over how a file spells it: the printable alphabet of byte-level
vocabularies, the `▁` of sentencepiece-like ones and their `<0xNN>` byte tokens are undone first. Two files that spell the
same vocabulary differently agree; a permuted vocabulary of the same size does not.

| id | flag | bytes |
|---|---|---|
| an added token (`added_tokens` of tokenizer.json) | 1 if special, else 0 | its text in UTF-8, taken literally |
| a vocabulary entry, byte-level | 0 | each character looked up in the byte alphabet |
| a vocabulary entry, sentencepiece-like | 0 | `<0xNN>` is one byte; else `▁` becomes a space, UTF-8 |
| any other vocabulary entry | 0 | its text in UTF-8 |
| no entry | 2 | none |

A byte-level entry with a character outside the alphabet has no byte meaning and is taken literally.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from preceptor import names
from preceptor.errors import ConfigurationError
from preceptor.names import TokenKind

BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>\Z")
SPACE_MARK = "\u2581"
DEFAULT_TEMPLATE = "default"

Entry = tuple[TokenKind, bytes]


def tokenizer_entries(tokenizer: Any) -> list[Entry]:
    """What every id of a `PreTrainedTokenizerFast` or `tokenizers.Tokenizer` stands for, in id order."""
    spec = _spec(tokenizer)
    added = {token["id"]: token for token in spec["added_tokens"]}
    texts = {token_id: text for text, token_id in _backend(tokenizer).get_vocab(with_added_tokens=True).items()}
    raw = _byte_level if "ByteLevel" in _component_types(spec) else _piece if _is_sentencepiece_like(spec) else str.encode
    size = max(texts, default=-1) + 1
    return [_entry(token_id, texts, added, raw) for token_id in range(size)]


def tokenizer_sha256(tokenizer: Any) -> bytes:
    """The digest that a wrong pair differs in."""
    return names.tokenizer_digest(tokenizer_entries(tokenizer))


def template_sha256(tokenizer: Any) -> bytes:
    """Over the chat template's text (empty where there is none) and the ids of all special tokens."""
    template = getattr(tokenizer, "chat_template", None) or ""
    if isinstance(template, dict):
        template = template.get(DEFAULT_TEMPLATE, "")
    special = [i for i, (kind, _) in enumerate(tokenizer_entries(tokenizer)) if kind is TokenKind.SPECIAL]
    return names.template_digest(template, special)


def tokenizer_size(tokenizer: Any) -> int:
    """One more than the highest id that stands for something."""
    return max(_backend(tokenizer).get_vocab(with_added_tokens=True).values(), default=-1) + 1


def _entry(token_id: int, texts: dict[int, str], added: dict[int, dict[str, Any]], raw: Any) -> Entry:
    if token_id in added:
        token = added[token_id]
        return (TokenKind.SPECIAL if token["special"] else TokenKind.NORMAL), token["content"].encode()
    if token_id not in texts:
        return TokenKind.UNUSED, b""
    return TokenKind.NORMAL, raw(texts[token_id])


def _backend(tokenizer: Any) -> Any:
    backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
    if not hasattr(backend, "to_str"):
        kind = type(tokenizer).__name__
        raise ConfigurationError(
            f"{kind} has no tokenizer.json behind it",
            field="tokenizer",
            value=kind,
            limit="a fast tokenizer",
            hint="save the model's tokenizer as a fast one: its vocabulary is read from tokenizer.json",
        )
    return backend


def _spec(tokenizer: Any) -> dict[str, Any]:
    return json.loads(_backend(tokenizer).to_str())


def _component_types(spec: dict[str, Any]) -> set[str]:
    """The types of all normalizers, pre-tokenizers and decoders, those inside sequences included."""
    return {part["type"] for part in _components(spec)}


def _components(spec: dict[str, Any]) -> Iterator[dict[str, Any]]:
    waiting = [spec[kind] for kind in ("normalizer", "pre_tokenizer", "decoder") if spec.get(kind)]
    while waiting:
        part = waiting.pop()
        for inner in ("normalizers", "pretokenizers", "decoders"):
            waiting.extend(part.get(inner, ()))
        yield part


def _is_sentencepiece_like(spec: dict[str, Any]) -> bool:
    marks = any(
        part["type"] == "Metaspace" or SPACE_MARK in (part.get("content"), *(part.get("pattern") or {}).values())
        for part in _components(spec)
    )
    return marks or bool(spec["model"].get("byte_fallback"))


def _piece(text: str) -> bytes:
    if found := BYTE_TOKEN.match(text):
        return bytes([int(found[1], 16)])
    return text.replace(SPACE_MARK, " ").encode()


def _byte_level(text: str) -> bytes:
    table = _byte_alphabet()
    return bytes(table[c] for c in text) if all(c in table for c in text) else text.encode()


@cache
def _byte_alphabet() -> dict[str, int]:
    """Character -> byte. Printable Latin-1 stands for itself, the other 68 bytes for the characters from U+0100 on, in order."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return {chr(byte if byte in printable else next(others)): byte for byte in range(256)}
