"""The parts of `benchmarks.bench_loss`."""
