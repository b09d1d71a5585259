"""The terms of an objective at one step: op names resolved, every ramp at its value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from preceptor.recipes.objective import ObjectiveSpec, TermSpec
from preceptor.recipes.ops import Gradient, Kind, Params
from preceptor.recipes.ops.source_pairs import SourcePairsParams
from preceptor.recipes.resolve import resolve_op
from preceptor.recipes.schedules import at_step, params_at_step
from preceptor.recipes.schema import OpUse, Use


@dataclass(frozen=True, slots=True)
class BoundOp:
    """An op's name, its parameters at this step (no ramps), and its slot."""

    name: str
    params: Params
    kind: Kind
    gradient: Gradient


@dataclass(frozen=True, slots=True)
class BoundUse:
    """An op in a list slot, and what it reads."""

    op: BoundOp
    teacher: str | None
    signal: BoundOp | None


@dataclass(frozen=True, slots=True)
class BoundTerm:
    """One term at one step."""

    spec: TermSpec
    weight: float
    objective: BoundOp
    signal: BoundOp | None
    advantage: tuple[BoundUse, ...] = ()
    token_weights: tuple[BoundUse, ...] = ()
    sample_weights: tuple[BoundUse, ...] = ()
    when: tuple[BoundUse, ...] = ()
    pairs: BoundUse | None = None

    @property
    def row_uses(self) -> tuple[BoundUse, ...]:
        """The ops that look at rows, in the order in which they work."""
        return (*self.advantage, *self.token_weights)

    @property
    def sources(self) -> tuple[str, ...]:
        """Whose rollouts the term reads."""
        params = self.pairs.op.params if self.pairs else None
        return (self.spec.on, params.rejected) if isinstance(params, SourcePairsParams) else (self.spec.on,)

    @property
    def reads_states(self) -> bool:
        """Whether the teacher gives states, and every token is compared behind its head."""
        return self.signal is not None and self.signal.name == "hidden"

    @property
    def prefers(self) -> bool:
        """Whether it compares whole responses."""
        return self.objective.gradient is Gradient.PREFERENCE


def bind(spec: ObjectiveSpec, step: int) -> tuple[BoundTerm, ...]:
    """The terms with every ramp at its value of this step."""
    return tuple(_Binder(f"objective.json.terms[{index}]", step).term(term) for index, term in enumerate(spec.terms))


@dataclass(frozen=True, slots=True)
class _Binder:
    where: str
    step: int

    def term(self, term: TermSpec) -> BoundTerm:
        return BoundTerm(
            term,
            at_step(term.weight, self.step),
            self.op(term.objective, Kind.OBJECTIVE),
            self.op(term.signal, Kind.SIGNAL) if term.signal else None,
            self.uses(term.advantage, Kind.ADVANTAGE, Kind.TRANSFORM),
            self.uses(term.token_weights, Kind.TOKEN_WEIGHT),
            self.uses(term.sample_weights, Kind.SAMPLE_WEIGHT),
            self.uses(term.when, Kind.CONDITION),
            self.use(term.pairs, Kind.PAIRS) if term.pairs else None,
        )

    def uses(self, uses: Sequence[Use], *kinds: Kind) -> tuple[BoundUse, ...]:
        return tuple(self.use(use, *kinds) for use in uses)

    def use(self, use: Use, *kinds: Kind) -> BoundUse:
        return BoundUse(self.op(use, *kinds), use.teacher, self.op(use.signal, Kind.SIGNAL) if use.signal else None)

    def op(self, use: OpUse, *kinds: Kind) -> BoundOp:
        op = resolve_op(use, *kinds, where=f"{self.where}.{kinds[0]}")
        return BoundOp(op.spec.name, params_at_step(op.params, self.step), op.spec.kind, op.spec.gradient)
