"""The ways to scores that vLLM offers, each tried in a process of its own on the same model and sequences.

extension        our readout in the workers: what the engine does
prompt_logprobs  vLLM's own top-k of prompts
connector        hidden states through a KV connector, our readout outside of vLLM
per_row_ids      ids of the caller's own for each row, which only the second model runner knows
"""
