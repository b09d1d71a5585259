"""Slots to ops: the spec that a name stands for in its slot, and the op's own parameters, checked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from preceptor.errors import ConfigurationError
from preceptor.recipes.load import validate
from preceptor.recipes.ops import OPS, Gradient, Kind, OpSpec, Params
from preceptor.recipes.schema import OpUse, Term
from preceptor.suggest import did_you_mean


@dataclass(frozen=True, slots=True)
class ResolvedOp:
    """An op and its parameters, defaults filled in."""

    spec: OpSpec
    params: Params

    @property
    def use(self) -> OpUse:
        """The slot written out in full."""
        return OpUse(op=self.spec.name, params=self.params.model_dump(mode="json"))


@dataclass(frozen=True, slots=True)
class ResolvedTerm:
    """A term whose slots are ops of the right kind."""

    term: Term
    where: str
    objective: ResolvedOp
    signal: ResolvedOp | None
    advantage: ResolvedOp | None

    @property
    def name(self) -> str:
        return self.term.name or self.objective.spec.name


def resolve_term(term: Term, index: int) -> ResolvedTerm:
    """The ops of a term, or `ConfigurationError` naming the slot."""
    where = f"terms[{index}]"
    return ResolvedTerm(
        term,
        where,
        resolve_op(term.objective, Kind.OBJECTIVE, f"{where}.objective"),
        resolve_op(term.signal, Kind.SIGNAL, f"{where}.signal") if term.signal else None,
        resolve_op(term.advantage, Kind.ADVANTAGE, f"{where}.advantage") if term.advantage else None,
    )


def resolve_op(use: OpUse, kind: Kind, where: str) -> ResolvedOp:
    """The op that a slot names, with its parameters."""
    spec = OPS.get(use.op)
    if spec is None or spec.kind is not kind:
        raise _no_such_op(use.op, spec, kind, where)
    return ResolvedOp(spec, validate(spec.params, use.params, f"{where}.params"))


def _no_such_op(name: str, spec: OpSpec | None, kind: Kind, where: str) -> ConfigurationError:
    hint = did_you_mean(name, _names(kind))
    if spec is None:
        return ConfigurationError(f"{where}: there is no {kind} {name!r}", field=where, value=name, hint=hint)
    if kind is Kind.ADVANTAGE and spec.gradient is Gradient.PATHWISE:
        why = "it is the same whichever token was drawn, so as a detached advantage its expected gradient is zero"
        return ConfigurationError(
            f"{where}: {name} is a divergence; {why}", field=where, value=name, hint=f"set objective: {name} and drop advantage"
        )
    return ConfigurationError(f"{where}: {name} is an op of kind {spec.kind}, not {kind}", field=where, value=name, hint=hint)


def _names(kind: Kind) -> Iterator[str]:
    return (spec.name for spec in OPS.values() if spec.kind is kind)
