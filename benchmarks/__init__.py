"""Benchmarks: `python -m benchmarks.NAME` runs both sides in one run, prints a table and writes `results/NAME.json`."""
