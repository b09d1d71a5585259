"""`python -m examples.tiny.try_views`: greedy accuracy of the reader on the held-out hard sums, bare and under each view."""

from __future__ import annotations

import random

from transformers import PreTrainedModel

from examples.tiny import task
from examples.tiny.decode import accuracy, load_model
from examples.tiny.views import VIEWS


def under(model: PreTrainedModel, view: str, sums: int) -> float:
    """The share of the first held-out sums that are right when they are read under this view."""
    draw = random.Random(7)
    return accuracy(model, task.load("heldout")[:sums], lambda problem: VIEWS[view](problem, draw))


def main() -> None:
    model, heldout = load_model("reader"), task.load("heldout")
    print(f"bare {accuracy(model, heldout):.1%}")
    for view in VIEWS:
        print(f"{view} {under(model, view, len(heldout)):.1%}")


if __name__ == "__main__":
    main()
