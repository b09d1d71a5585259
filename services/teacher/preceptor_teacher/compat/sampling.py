"""How vLLM is asked to sample, and what of it means anything to a server that scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from preceptor.errors import InvalidArgument
from preceptor.types import Want
from preceptor_teacher.compat.asks import scale_of
from preceptor_teacher.rest.bodies import Body, Count

NEUTRAL: dict[str, tuple[object, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "top_p": (1,),
    "top_k": (0, -1),
    "min_p": (0,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "repetition_penalty": (1,),
    "length_penalty": (1,),
    "min_tokens": (0,),
    "stop": ([], ""),
    "stop_token_ids": ([],),
    "bad_words": ([],),
    "logit_bias": ({},),
    "allowed_token_ids": (),
    "logprob_token_ids": ([],),
    "structured_outputs": (),
    "response_format": ({"type": "text"},),
    "use_beam_search": (False,),
    "truncate_prompt_tokens": (),
    "prompt_embeds": (),
    "suffix": ("",),
    "stream": (False,),
    "stream_options": (),
    "priority": (0,),
    "features": (),
    "content_parts": (),
    "kv_transfer_params": (),
    "ec_transfer_params": (),
    "vllm_xargs": (),
    "extra_args": (),
    "output_mode": ("tokens",),
    "text": (),
    "input_embeds": (),
    "image_data": ([],),
    "return_text_in_logprobs": (False,),
    "return_hidden_states": (False,),
    "lora_path": (),
}
"""Fields that would change what is computed or sent, and the values under which they do not; null always is one of them."""


class Drawing(Body):
    """How a token would be drawn, in the words that vLLM and SGLang share."""

    n: Any = None
    top_p: Any = None
    top_k: Any = None
    min_p: Any = None
    frequency_penalty: Any = None
    presence_penalty: Any = None
    repetition_penalty: Any = None
    stop: Any = None
    stop_token_ids: Any = None
    logit_bias: Any = None
    ignore_eos: Any = None
    skip_special_tokens: Any = None
    """Replies have ids and no text; so it is with the other fields about text."""

    spaces_between_special_tokens: Any = None


class Sampling(Drawing):
    """The fields of vLLM's sampling parameters."""

    max_tokens: Count | None = 16
    """1: the most likely next token, whatever the temperature. 0: none. More is refused: this server scores."""

    temperature: Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)] | None = None
    """Divides the logits of every log-probability; 0 leaves them as they are."""

    logprobs: Count | None = None
    """This many most likely ids of each token that the reply's `logprobs` covers."""

    prompt_logprobs: Count | None = None
    """This many most likely ids at each token of the prompt, and the token itself."""

    min_tokens: Any = None
    bad_words: Any = None
    allowed_token_ids: Any = None
    logprob_token_ids: Any = None
    structured_outputs: Any = None
    seed: Any = None
    """Nothing is drawn, so nothing depends on it."""

    detokenize: Any = None
    include_stop_str_in_output: Any = None


def check_neutral(body: Body, prefix: str = "", also: Mapping[str, tuple[object, ...]] | None = None) -> None:
    """Refuses, by its name, what would be answered differently here than by the server that the caller means."""
    for field, neutral in {**NEUTRAL, **(also or {})}.items():
        value = getattr(body, field, None)
        if value is not None and not any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in neutral):
            raise InvalidArgument(
                f"{prefix}{field} is not served here",
                field=f"{prefix}{field}",
                value=value if isinstance(value, str | int | float) else type(value).__name__,
                limit=" or ".join([*(repr(one) for one in neutral), "null"]),
            )


def check_max_tokens(value: int | None, field: str, limit: str = "0 or 1") -> None:
    if value not in (0, 1):
        raise InvalidArgument(
            f"{field}: this server scores, and generates one token at most",
            field=field,
            value="null" if value is None else value,
            limit=limit,
            hint=f"send {field}: 1, or 0 for scores alone",
        )


def want_of(sampling: Sampling, prompt_k: int | None) -> Want:
    """One want for scores of the prompt (`prompt_k` ids each, or none) and the next token."""
    generates = sampling.max_tokens == 1
    widths = (prompt_k or 0, sampling.logprobs or 0 if generates else 0, 1 if generates else 0)
    return Want(sampled=prompt_k is not None, topk=max(widths), next=generates, temperature=scale_of(sampling.temperature))


def widest(sampling: Sampling) -> str:
    """The field that the width of the lists came from, which is what a refusal of it is about."""
    asked, drawn = sampling.prompt_logprobs, sampling.logprobs or 0 if sampling.max_tokens == 1 else 0
    return "logprobs" if asked is None or drawn > asked else "prompt_logprobs"
