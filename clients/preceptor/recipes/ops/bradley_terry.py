"""A preference without a reference: the student's own log-probabilities of whole responses are the scores."""

from preceptor.recipes.ops.spec import Gradient, Kind, OpSpec, Params
from preceptor.recipes.schedules import NotNegative, Positive


class BradleyTerryParams(Params):
    """How scores are made of log-probabilities."""

    beta: Positive = 1.0
    """Times the difference of scores."""

    mean: bool = False
    """Score a response by its mean log-probability a token, not by the sum: length does not count."""

    margin: NotNegative = 0.0
    """The chosen response has to be ahead by this much."""


SPEC = OpSpec(
    "bradley_terry",
    Kind.OBJECTIVE,
    "minus log sigmoid of beta times the difference of log-probabilities, minus a margin",
    params=BradleyTerryParams,
    gradient=Gradient.PREFERENCE,
)
