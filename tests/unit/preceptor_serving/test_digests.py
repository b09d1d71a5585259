"""Digests of tokenizers: golden values, spelled out by hand, for each way in which a file spells bytes."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from preceptor.errors import ConfigurationError
from preceptor_serving.digests import template_sha256, tokenizer_entries, tokenizer_sha256, tokenizer_size

TINY = Path(__file__).parents[3] / "examples" / "tiny"
NORMAL, SPECIAL, UNUSED = 0, 1, 2


def by_hand(entries) -> bytes:
    return hashlib.sha256(
        struct.pack("<I", len(entries)) + b"".join(struct.pack("<BI", flag, len(raw)) + raw for flag, raw in entries)
    ).digest()


def byte_level(vocab: dict[str, int]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def sentencepiece_like(vocab: dict[str, int]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[], byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return tokenizer


def test_the_bundled_pair_shares_one_digest_with_a_golden_value():
    teacher, student = (AutoTokenizer.from_pretrained(TINY / name, local_files_only=True) for name in ("teacher", "student"))
    specials = [b"<|pad|>", b"<|bos|>", b"<|eos|>", b"<|user|>", b"<|assistant|>"]
    expected = [(SPECIAL, text) for text in specials] + [(NORMAL, bytes([byte])) for byte in range(256)]
    assert tokenizer_sha256(teacher) == tokenizer_sha256(student) == by_hand(expected)
    assert tokenizer_size(teacher) == 261
    assert template_sha256(teacher) == template_sha256(student)


def test_a_byte_level_alphabet_is_undone_and_added_tokens_are_literal():
    tokenizer = byte_level({"Ġ": 0, "a": 1, "Ã©": 2, "Ċ": 3, "語": 4})
    tokenizer.add_special_tokens(["<|end|>"])
    tokenizer.add_tokens([AddedToken("Ġraw", special=False)])
    expected = [
        (NORMAL, b" "),
        (NORMAL, b"a"),
        (NORMAL, "é".encode()),
        (NORMAL, b"\n"),
        (NORMAL, "語".encode()),
        (SPECIAL, b"<|end|>"),
        (NORMAL, "Ġraw".encode()),
    ]
    assert tokenizer_entries(tokenizer) == expected
    assert tokenizer_sha256(tokenizer) == by_hand(expected)


def test_marks_and_byte_tokens_of_sentencepiece_are_undone_and_holes_are_unused():
    tokenizer = sentencepiece_like({"<unk>": 0, "<0x0A>": 1, "<0xff>": 2, "▁the": 3, "▁": 4, "é": 6, "<0x0A>b": 7})
    tokenizer.add_special_tokens(["<unk>"])
    expected = [
        (SPECIAL, b"<unk>"),
        (NORMAL, b"\n"),
        (NORMAL, b"\xff"),
        (NORMAL, b" the"),
        (NORMAL, b" "),
        (UNUSED, b""),
        (NORMAL, "é".encode()),
        (NORMAL, b"<0x0A>b"),
    ]
    assert tokenizer_entries(tokenizer) == expected
    assert tokenizer_size(tokenizer) == 8


def test_one_vocabulary_in_two_spellings_agrees_and_a_permuted_one_does_not():
    ours = byte_level({"a": 0, "Ġb": 1, "c": 2})
    assert tokenizer_sha256(ours) == tokenizer_sha256(sentencepiece_like({"a": 0, "▁b": 1, "c": 2}))
    assert tokenizer_sha256(ours) != tokenizer_sha256(byte_level({"c": 0, "Ġb": 1, "a": 2}))


def test_the_template_digest_follows_the_text_and_the_special_ids():
    def template(text: str | None, specials: list[str]) -> bytes:
        tokenizer = byte_level({"a": 0, "b": 1})
        tokenizer.add_special_tokens(specials)
        return template_sha256(PreTrainedTokenizerFast(tokenizer_object=tokenizer, chat_template=text))

    def written_out(text: bytes, *ids: int) -> bytes:
        return hashlib.sha256(struct.pack("<I", len(text)) + text + struct.pack(f"<I{len(ids)}I", len(ids), *ids)).digest()

    assert template("{{ x }}", ["<s>"]) == written_out(b"{{ x }}", 2)
    assert template(None, ["<s>", "</s>"]) == written_out(b"", 2, 3)


def test_a_tokenizer_without_a_vocabulary_file_is_refused_by_name():
    with pytest.raises(ConfigurationError, match="tokenizer"):
        tokenizer_sha256(object())
