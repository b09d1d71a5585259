"""The byte-level tokenizer that both models of the pair share: one token per UTF-8 byte, plus five specials."""

from __future__ import annotations

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

PAD, BOS, EOS, USER, ASSISTANT = SPECIALS = ("<|pad|>", "<|bos|>", "<|eos|>", "<|user|>", "<|assistant|>")
PAD_ID, BOS_ID, EOS_ID, USER_ID, ASSISTANT_ID = range(len(SPECIALS))
FIRST_BYTE_ID = len(SPECIALS)
VOCAB_SIZE = FIRST_BYTE_ID + 256

CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{% if message.role == 'assistant' %}"
    "{% if loop.first or loop.previtem.role != 'tool' %}<|assistant|>{% endif %}{{ message.content }}"
    "{% if loop.last or loop.nextitem.role != 'tool' %}{{ eos_token }}{% endif %}"
    "{% elif message.role == 'tool' %}{{ message.content }}"
    "{% else %}<|user|>{{ message.content }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt and messages[-1].role != 'tool' %}<|assistant|>{% endif %}"
)
"""What a tool says stands within the reply, which goes on behind it."""


def _byte_alphabet() -> list[str]:
    """The printable stand-in of each byte, 0 to 255, that byte-level tokenizers write (GPT-2's table)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = iter(range(256, 512))
    return [chr(byte if byte in printable else next(others)) for byte in range(256)]


def build() -> PreTrainedTokenizerFast:
    """A fresh tokenizer; byte b has id b + FIRST_BYTE_ID."""
    vocab = {token: i for i, token in enumerate([*SPECIALS, *_byte_alphabet()])}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIALS])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=512,
    )


def text_ids(text: str) -> list[int]:
    """The ids of plain text, without a tokenizer object: what `build()` gives, at the speed that training from scratch needs."""
    return [byte + FIRST_BYTE_ID for byte in text.encode()]


def prompt_ids(prompt: str) -> list[int]:
    """The ids of one user message with the opening of the reply: what the chat template gives."""
    return [BOS_ID, USER_ID, *text_ids(prompt), ASSISTANT_ID]
