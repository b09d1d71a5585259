"""The divergence on chosen ids and the rest: against whole distributions in float64, and its gradient by finite differences."""

from __future__ import annotations

import math

import pytest
import torch

from preceptor.integrations.supports import divergence, student_support

ROWS, IDS = 5, 23


def logits(seed: int) -> torch.Tensor:
    return 3 * torch.randn(ROWS, IDS, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def masses(table: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Log-mass of each id, and of all others, in plain loops."""
    probabilities = table.softmax(-1)
    rows = []
    for row, chosen in zip(probabilities, ids, strict=True):
        rest = math.fsum(p for i, p in enumerate(row.tolist()) if i not in chosen.tolist())
        rows.append([math.log(row[i]) for i in chosen] + [math.log(rest)])
    return torch.tensor(rows, dtype=torch.float64)


@pytest.mark.parametrize("width", [1, 4, 22])
def test_the_student_chooses_its_likeliest_ids_and_keeps_the_rest_of_its_mass(width):
    table = logits(1)
    support = student_support(table, width, usable_ids=IDS)
    assert torch.equal(support.ids_NK, table.topk(width).indices)
    torch.testing.assert_close(support.student_NM.double(), masses(table, support.ids_NK), rtol=1e-5, atol=1e-5)


def test_ids_that_no_tokenizer_has_are_never_asked_about():
    table = logits(2)
    table[:, 20:] += 50
    support = student_support(table, 8, usable_ids=20)
    assert int(support.ids_NK.max()) < 20
    assert float(support.student_NM[:, -1].exp().min()) > 0.99, "their mass is in the tail"


def test_a_support_of_everything_has_no_tail():
    support = student_support(logits(3), 1000, usable_ids=IDS)
    assert support.student_NM.shape == (ROWS, IDS)


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_the_divergence_is_the_textbooks(beta):
    s, t = (logits(seed).log_softmax(-1) for seed in (4, 5))
    m = ((1 - beta) * s.exp() + beta * t.exp()).log()
    mixed = beta * (t.exp() * (t - m)).sum(-1) + (1 - beta) * (s.exp() * (s - m)).sum(-1)
    expected = {0.0: (t.exp() * (t - s)).sum(-1), 1.0: (s.exp() * (s - t)).sum(-1)}.get(beta, mixed)
    torch.testing.assert_close(divergence(s, t, beta), expected)
    assert torch.autograd.gradcheck(lambda x: divergence(x.log_softmax(-1), t, beta), logits(4).requires_grad_())


def test_bins_without_mass_cost_nothing_and_send_no_nan_back():
    s = torch.tensor([[0.0, -math.inf]], requires_grad=True)
    t = torch.tensor([[-0.5, -math.inf]])
    loss = divergence(s, t, 1.0).sum()
    loss.backward()
    assert loss.item() == pytest.approx(0.5)
    assert s.grad is not None
    assert torch.isfinite(s.grad).all()
