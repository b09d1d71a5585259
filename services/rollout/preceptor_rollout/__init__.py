"""The rollout service: renders prompts, generates with the student, and writes response logs."""
