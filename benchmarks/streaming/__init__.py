"""Parts of `bench_streaming`: a small trained model without a hub, services on one queue, and what is timed on them."""
