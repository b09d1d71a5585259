"""Random models of many architectures, two layers each: what the hf engine has to score as they are, or to refuse."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import transformers

from tests.support.models import HEAD_ROWS, SHAPE

WIDE = {"initializer_range": 0.3}  # so that what a model is told changes what it says
FULL = {"layer_types": ["full_attention"] * 2}
MOE = {"num_experts_per_tok": 2, **WIDE}
GEMMA = {"head_dim": 8, "query_pre_attn_scalar": 8, "final_logit_softcapping": 5.0, **WIDE}
GPT2 = {
    "vocab_size": HEAD_ROWS,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 256,
}
PLAIN = {"vocab_size": HEAD_ROWS, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, **WIDE}
LOCAL = {"num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]], "window_size": 16}
EXPERTS = {"num_local_experts": 4, **MOE}
DEEPSEEK = {"n_routed_experts": 8, "n_group": 2, "topk_group": 1, "moe_intermediate_size": 16, **MOE}
LATENT = {"kv_lora_rank": 16, "q_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 16}

GROWING: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "gemma2": ("Gemma2Config", {**SHAPE, **GEMMA, **FULL, "attn_logit_softcapping": 2.0}),
    "gpt2": ("GPT2Config", {**GPT2, **WIDE}),
    "qwen3_moe": ("Qwen3MoeConfig", {**SHAPE, **MOE, "head_dim": 8, "num_experts": 4, "moe_intermediate_size": 16}),
}
"""Learned positions and a tied head, soft caps on attention and logits, experts: in every test run."""

GROWING_TOO: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "deepseek_v3": ("DeepseekV3Config", {**SHAPE, "num_key_value_heads": 4, **LATENT, **DEEPSEEK}),
    "gemma3": ("Gemma3TextConfig", {**SHAPE, **GEMMA, **FULL}),
    "gptj": ("GPTJConfig", {**GPT2, "rotary_dim": 4, **WIDE}),
    "granite": ("GraniteConfig", {**SHAPE, "logits_scaling": 3.0, **WIDE}),
    "mixtral": ("MixtralConfig", {**SHAPE, **EXPERTS, "sliding_window": None}),
    "phi3": ("Phi3Config", {**SHAPE, **WIDE, "pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0}),
    "qwen3": ("Qwen3Config", {**SHAPE, "head_dim": 8, **WIDE}),
}

WHOLE_ONLY: Mapping[str, tuple[str, Mapping[str, Any], str]] = {
    "bloom": ("BloomConfig", {"vocab_size": HEAD_ROWS, "hidden_size": 32, "n_layer": 2, "n_head": 4, **WIDE}, "position ids"),
    "falcon_alibi": ("FalconConfig", {**PLAIN, "alibi": True}, "kept states fails"),
    "gemma2_sliding": ("Gemma2Config", {**SHAPE, **GEMMA, "sliding_window": 16}, "DynamicSlidingWindowLayer"),
    "gpt_neo": ("GPTNeoConfig", {**PLAIN, **LOCAL, "max_position_embeddings": 256}, "nats off"),
    "mamba": ("MambaConfig", {**PLAIN, "state_size": 8}, "position ids"),
}
"""Scored whole, without growing states; the words of the log that say why."""

REFUSED: Mapping[str, tuple[Callable[[], Any], str]] = {
    "bart": (lambda: transformers.BartForConditionalGeneration(_bart()), "encoder-decoder"),
    "t5": (lambda: transformers.T5ForConditionalGeneration(_t5()), "encoder-decoder"),
    "vit": (
        lambda: transformers.ViTModel(transformers.ViTConfig(**{**PLAIN, "intermediate_size": 32})),
        "no causal language model",
    ),
    "bidirectional": (
        lambda: random_model("Gemma3TextConfig", {**SHAPE, **GEMMA, "use_bidirectional_attention": True}),
        "looks ahead",
    ),
}


def random_model(config: str, fields: Mapping[str, Any]) -> Any:
    """A causal language model of this configuration."""
    torch.manual_seed(1)
    return transformers.AutoModelForCausalLM.from_config(getattr(transformers, config)(**fields)).eval()


def _bart() -> transformers.BartConfig:
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    sizes = {"encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32}
    return transformers.BartConfig(vocab_size=HEAD_ROWS, d_model=32, **sizes, **heads)


def _t5() -> transformers.T5Config:
    return transformers.T5Config(vocab_size=HEAD_ROWS, d_model=32, d_kv=8, d_ff=64, num_layers=1, num_heads=4)
