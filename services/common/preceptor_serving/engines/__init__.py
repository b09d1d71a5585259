"""Engines: what computes scores. `protocol` says what one is, `registry` which there are, `fake` is the test double."""
