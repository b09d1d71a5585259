"""What a recipe was told to do that biases its gradient: no reason to refuse it, and one to say so."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from preceptor.recipes.ops.divergence import DivergenceParams
from preceptor.recipes.ops.support import SupportParams
from preceptor.recipes.resolve import ResolvedTerm
from preceptor.recipes.rules.codes import Code
from preceptor.recipes.rules.divergences import on_supports
from preceptor.recipes.rules.finding import Finding
from preceptor.recipes.schema import Recipe


def biases(recipe: Recipe, terms: Sequence[ResolvedTerm]) -> list[Finding]:
    """One finding for each choice; a recipe with them still compiles."""
    of_supports = [finding for one in terms for finding in _of_support(one)]
    return of_supports + [finding for one, params, _ in on_supports(terms) for finding in _of_divergence(recipe, one, params)]


def _of_support(one: ResolvedTerm) -> Iterator[Finding]:
    """Of every objective that compares both sides on a support, mixes and soft targets too."""
    support = one.signal.params if one.signal else None
    if not isinstance(support, SupportParams) or "support" not in one.objective.spec.reads:
        return
    tail = (f"terms.{one.index}.signal.params.tail=true", f"terms.{one.index}.signal.params.renormalise=false")
    if support.renormalise:
        why = "renormalising over the support biases the gradient: nothing holds the student's mass inside it"
        yield Finding(Code.RENORMALISED, f"{one.where}.signal.params.renormalise", why, "keep a tail", tail)
    elif not support.tail:
        why = "a partial sum without its tail biases the gradient: mass that leaves the support costs nothing"
        yield Finding(Code.NO_TAIL, f"{one.where}.signal.params.tail", why, "keep the tail", tail[:1])


def _of_divergence(recipe: Recipe, one: ResolvedTerm, params: DivergenceParams) -> Iterator[Finding]:
    for clamp in ("entry_clamp", "row_clamp"):
        if getattr(params, clamp) is not None:
            why = f"{clamp} biases the gradient: what it cuts off is not learned from"
            field = f"terms.{one.index}.objective.params.{clamp}"
            yield Finding(Code.CLAMPED, f"{one.where}.objective.params.{clamp}", why, "leave it out", (f"{field}=null",))
    if params.unbiased and recipe.schedule.publish_every_steps > 1:
        why = "unbiased counts on draws of the newest weights, and these are published less often than every step"
        yield Finding(
            Code.UNBIASED_STALE, "schedule.publish_every_steps", why, "publish every step", ("schedule.publish_every_steps=1",)
        )
