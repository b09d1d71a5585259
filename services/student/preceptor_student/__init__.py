"""The student service: trains on rollouts and scores, checkpoints, and publishes weights."""
