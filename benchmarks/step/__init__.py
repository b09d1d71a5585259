"""One step of on-policy distillation: ours, TRL's, and ours with its stages side by side."""
