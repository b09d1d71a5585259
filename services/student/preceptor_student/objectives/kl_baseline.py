"""The advantage plus the reverse KL of the row.

E[log teacher - log student] under the student is minus the reverse KL, so k1 plus the KL has mean zero. On a smaller support it
is the KL of the coarser partition: as long as that does not depend on the drawn token, the mean of the gradient stays what it is.
"""

from torch import Tensor

from preceptor.recipes.ops.spec import NoParams
from preceptor_student.objectives import reverse_kl
from preceptor_student.objectives.kinds import Facts
from preceptor_student.objectives.quantities import divergence_n
from preceptor_student.objectives.rows import TermRows
from preceptor_student.objectives.signals import Mask


def usable(facts: Facts, _params: NoParams) -> Mask:
    """Rows on which the divergence is finite."""
    return reverse_kl.usable(facts.signal, facts.head_rows)


def apply(rows: TermRows, advantage_n: Tensor, _params: NoParams) -> Tensor:
    return advantage_n + divergence_n(rows).detach()
