"""The parts of `scripts/mutate_objectives.py`."""
