"""The teacher service: scores the tokens that a student generated."""
