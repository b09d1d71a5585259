"""`Pieces`: the bytes of every id, special tokens by name, and refusals of ids that stand for nothing."""

from __future__ import annotations

import pytest

from examples.tiny.tokenizer import EOS, EOS_ID, VOCAB_SIZE
from preceptor.errors import InvalidArgument
from preceptor.types import as_ids
from tests.unit.preceptor_rollout.serving import serving

TEXT = "3+4=7 é€"


async def test_pieces_joined_are_the_text_that_render_encoded_and_specials_stand_by_name():
    async with serving() as (_, client):
        rendered = await client.render([TEXT])
        pieces = await client.pieces([rendered.ids[0], as_ids([EOS_ID]), as_ids([])])
        text, end, nothing = pieces.lists
        assert b"".join(piece.utf8 for piece in text).decode() == TEXT
        assert len(text) == len(TEXT.encode()), "one token is one byte here, so that some pieces are parts of a character"
        assert [(piece.utf8.decode(), piece.is_special) for piece in end] == [(EOS, True)]
        assert not any(piece.is_special for piece in text)
        assert nothing == ()
        assert pieces.tokenizer_sha256 == rendered.tokenizer_sha256


async def test_an_id_beyond_the_tokenizer_is_refused_by_its_place():
    async with serving() as (_, client):
        await client.pieces([as_ids([VOCAB_SIZE - 1])])
        with pytest.raises(InvalidArgument) as caught:
            await client.pieces([as_ids([5]), as_ids([5, VOCAB_SIZE])])
    assert (caught.value.field, caught.value.value, caught.value.limit) == ("ids[1][1]", str(VOCAB_SIZE), f"< {VOCAB_SIZE}")
