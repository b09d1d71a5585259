"""What `bench_vllm` and `bench_vllm_ways` measure, on vLLM's CPU build."""
