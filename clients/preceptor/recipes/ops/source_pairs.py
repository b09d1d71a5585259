"""Pairs across two sources: the term's own rollouts are chosen, those of another source on the same prompt rejected."""

from pydantic import Field

from preceptor.recipes.ops.spec import Kind, OpSpec, Params


class SourcePairsParams(Params):
    """Who loses."""

    rejected: str = Field(min_length=1, max_length=64)
    """The source whose rollouts are rejected. The first sample meets the first, and so on."""


SPEC = OpSpec(
    "source_pairs",
    Kind.PAIRS,
    "rollouts of the term's source are chosen, those of another source on the same prompt rejected",
    params=SourcePairsParams,
)
