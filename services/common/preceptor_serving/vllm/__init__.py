"""vLLM inside an engine's own process, whatever the engine does with it: scoring or generation.

environment  what vLLM reads from the environment: set before any module below is imported, because they import vLLM
options      what an operator may say, and vLLM's own arguments under their own names
start        folder -> engine core with an extension of ours in its workers
core         requests in, one step at a time
probe        how to look for what is needed of vLLM beyond its public interface
"""
