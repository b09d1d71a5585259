"""SKD (arXiv 2410.11325): the student proposes, the teacher keeps what is among its likeliest and replaces the rest."""

from pydantic import Field

from preceptor.recipes.policies.spec import Params, PolicySpec


class SpeculativeParams(Params):
    """What the teacher keeps."""

    accept_topk: int = Field(default=25, ge=1, le=262_144)
    """A proposal among so many of the teacher's likeliest ids stays; another is replaced by a draw of the teacher's."""

    block_tokens: int = Field(default=1, ge=1, le=64)
    """So many proposals go to the teacher at once; those behind a replaced one are drawn again. The draws stay the same."""


SPEC = PolicySpec("speculative", "student proposals, replaced where the teacher finds them unlikely", SpeculativeParams)
