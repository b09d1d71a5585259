"""Numbers that published methods state of their divergences, by the name of their row in the catalogue of methods."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from preceptor.recipes.ops import OPS
from preceptor.recipes.ops.reverse_kl import ReverseKlParams
from preceptor.recipes.ops.support import SupportParams
from preceptor_student.monitors import Means, watch_rows
from tests.unit.preceptor_student.scoring import loss_of, rows_of, table_scores

S, T = (0.6, 0.3, 0.1), (0.2, 0.3, 0.5)
PEAKED = (0.97, 0.02, 0.01)
OPSD = {"p": (0.5, 0.3, 0.2), "q": (0.7, 0.2, 0.1)}
FULL = {"teacher_topk": 3, "sampled": False}
BOTH = {"teacher_topk": 2, "sampled": False}
RENORMALISED = {"sampled": False, "tail": False, "renormalise": True}
STUDENT_TOP2 = {"student_topk": 2, "sampled": False, "tail": False}

VALUES = [
    ("minillm: the single-step term is -KL(S||T)", "reverse_kl", {}, FULL, {}, 0.4982),
    ("eopd: above the threshold both directions add up", "entropy_gated_kl", {"threshold_nats": 0.8}, FULL, {}, 0.4982 + 0.5850),
    ("eopd: a decided teacher leaves the reverse KL", "entropy_gated_kl", {"threshold_nats": 0.8}, FULL, {"q": PEAKED}, None),
    ("eopd: no threshold is ever reached", "entropy_gated_kl", {"threshold_nats": 1e9}, FULL, {}, 0.4982),
    ("revisiting-opd: both sides renormalised over the teacher's top 2", "reverse_kl", {},
     RENORMALISED | {"teacher_topk": 2}, {}, 0.2908),
    ("revisiting-opd: K = |V|", "reverse_kl", {}, RENORMALISED | {"teacher_topk": 3}, {}, 0.4982),
    ("opsd: forward KL", "forward_kl", {}, FULL, OPSD, 0.0851),
    ("opsd: reverse KL", "reverse_kl", {}, FULL, OPSD, 0.0920),
    ("opsd: JSD(0.5)", "jsd", {}, FULL, OPSD, 0.0219),
    ("opsd: every summand clamped", "forward_kl", {"entry_clamp": 0.05}, FULL, OPSD, -0.1004),
    ("opsd: every token clamped", "forward_kl", {"row_clamp": 0.05}, FULL, OPSD, 0.05),
    ("sdpo: student's top 2 and a tail", "reverse_kl", {}, {"student_topk": 2, "sampled": False}, OPSD, 0.0920),
    ("sdpo: the same renormalised", "reverse_kl", {}, STUDENT_TOP2 | {"renormalise": True}, OPSD, 0.0595),
    ("gkd: a total variation of 0.4", "f_divergence", {"generator": "total_variation"}, FULL, {}, 0.4),
    ("distillspec: accepted are 0.8 of all drafts", "f_divergence", {"generator": "total_variation"}, FULL,
     {"p": (0.7, 0.2, 0.1), "q": (0.5, 0.3, 0.2)}, 0.2),
    ("opsdc: a law of two tokens", "reverse_kl", {}, BOTH, {"p": (0.5, 0.5), "q": (0.9, 0.1)}, 0.5108),
    ("distillm: a skewed divergence of equal sides is zero", "skew_kl", {"direction": "reverse"}, FULL, {"q": S}, 0.0),
]  # fmt: skip


def rows(p, support: dict, q=T):
    """One row; the student's own top tokens are what it listed."""
    student, teacher = (torch.tensor([side], dtype=torch.float64) for side in (p, q))
    params = SupportParams(**support)
    listed = student.detach().topk(params.student_topk, dim=1).indices.numpy() if params.student_topk else None
    logits = student.log().requires_grad_()
    scores = table_scores(teacher.log().numpy(), np.array([0]), params.teacher_topk, listed, sampled=bool(params.sampled))
    return rows_of(logits.log_softmax(-1), scores, params), logits


def slope_of(op, found, logits, params=None) -> np.ndarray:
    """The gradient of the divergence with respect to the row's logits."""
    (slope,) = torch.autograd.grad(loss_of(op, found, params).sum(), logits)
    return slope[0].numpy()


@pytest.mark.parametrize(("row", "op", "params", "support", "sides", "value"), VALUES, ids=[one[0] for one in VALUES])
def test_the_value_that_the_row_states(row, op, params, support, sides, value):
    found, _ = rows(sides.get("p", S), support, sides.get("q", T))
    wanted = loss_of("reverse_kl", found).item() if value is None else value
    assert loss_of(op, found, OPS[op].params(**params)).item() == pytest.approx(wanted, abs=5e-5 if value is not None else 0)


GRADIENTS = [
    ("naive", False, STUDENT_TOP2, T, (0.3237, -0.1678, -0.1559)),
    ("stopped", True, STUDENT_TOP2, T, (0.2637, -0.1978, -0.0659)),
    ("naive over everything", False, FULL, T, (0.3602, -0.1495, -0.2108)),
    ("stopped over everything", True, FULL, T, (0.3602, -0.1495, -0.2108)),
    ("naive at S = T is spurious", False, STUDENT_TOP2, S, (0.06, 0.03, -0.09)),
    ("stopped at S = T", True, STUDENT_TOP2, S, (0.0, 0.0, 0.0)),
]


@pytest.mark.parametrize(
    ("row", "stop", "support", "teacher", "wanted"), GRADIENTS, ids=[f"many-faces-opd: {one[0]}" for one in GRADIENTS]
)
def test_the_logit_gradients_of_many_faces_opd(row, stop, support, teacher, wanted):
    found, logits = rows(S, support, teacher)
    slope = slope_of("reverse_kl", found, logits, ReverseKlParams(stop_gradient=stop))
    np.testing.assert_allclose(slope, wanted, atol=6e-5)


@pytest.mark.parametrize(
    ("op", "weights"),
    [("reverse_kl", (-2.099, -1.0, 0.609)), ("forward_kl", (1 / 3, 1.0, 5.0)), ("jsd", (-0.203, 0.0, 0.549))],
    ids=lambda one: f"opd-plus: {one}" if isinstance(one, str) else "",
)
def test_the_divergences_descend_along_the_weighted_policy_gradients_of_opd_plus(op, weights):
    """E_S[w grad log p_S] with the row's weights of the three tokens is minus the gradient of the divergence."""
    found, logits = rows(S, FULL, T)
    mean = sum(p * w for p, w in zip(S, weights, strict=True))
    wanted = [-p * (w - mean) for p, w in zip(S, weights, strict=True)]
    np.testing.assert_allclose(slope_of(op, found, logits), wanted, atol=2e-4)


def test_opsdc_raises_what_the_concise_teacher_prefers():
    found, logits = rows((0.5, 0.5), BOTH, (0.9, 0.1))
    assert slope_of("reverse_kl", found, logits).tolist() == pytest.approx([-0.25 * np.log(9), 0.25 * np.log(9)])


def test_the_overlap_ratio_of_rethinking_opd():
    """Top 2 of the student {0, 1}, of the teacher {2, 1}: one half; of equal models one."""
    for teacher, wanted in ((T, 0.5), (S, 1.0)):
        found, _ = rows(S, {"teacher_topk": 2}, teacher)
        means = Means()
        watch_rows(found, means)
        assert means.means()["topk_overlap"] == wanted
        if teacher is S:
            assert means.means()["overlap_advantage"] == pytest.approx(0.0, abs=1e-12)
