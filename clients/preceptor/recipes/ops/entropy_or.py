"""High where the student is undecided or another quantity is large: with `of: divergence`, undecided, or sure and wrong."""

from preceptor.recipes.ops.quantities import OfQuantity, reads
from preceptor.recipes.ops.spec import Kind, OpSpec


class EntropyOrParams(OfQuantity):
    """Beside what the student's entropy stands."""


SPEC = OpSpec(
    "entropy_or",
    Kind.TOKEN_WEIGHT,
    "h + q - h q, h the student's entropy and q a quantity, each over its largest value in the response",
    params=EntropyOrParams,
    reads_of=reads,
)
