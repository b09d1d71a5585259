"""How a small real model judges: whether its verdicts can be read, whether they agree, and what talks it into another."""
