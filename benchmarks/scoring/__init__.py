"""Parts of the scoring benchmarks: models, readouts and their opponent, memory of fresh processes, a teacher behind its doors."""
