"""Slots to ops: the spec that a name stands for in its slot, and the op's own parameters, checked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from preceptor.errors import ConfigurationError
from preceptor.recipes.environments import ENVIRONMENT
from preceptor.recipes.load import validate
from preceptor.recipes.ops import OPS, Gradient, Kind, OpSpec, Params
from preceptor.recipes.ops.source_pairs import SourcePairsParams
from preceptor.recipes.ops.spec import Needs, NoParams
from preceptor.recipes.schema import OpUse, Term, Use
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
class Reading:
    """What an op reads: a signal of a teacher. `where` is the field that says so."""

    where: str
    teacher: str
    signal: ResolvedOp

    @property
    def needs(self) -> Needs:
        """What the teacher is asked for."""
        return self.signal.spec.needs(self.signal.params)


@dataclass(frozen=True, slots=True)
class ResolvedUse:
    """An op in a list slot, and its reading; None: it reads nothing, or the recipe does not say what."""

    where: str
    op: ResolvedOp
    reading: Reading | None
    names_a_reading: bool

    @property
    def use(self) -> Use:
        """The slot written out in full."""
        teacher, signal = (self.reading.teacher, self.reading.signal.use) if self.reading else (None, None)
        return Use(**self.op.use.model_dump(), teacher=teacher, signal=signal)


@dataclass(frozen=True, slots=True)
class ResolvedTerm:
    """A term whose slots are ops of the right kind."""

    term: Term
    index: int
    objective: ResolvedOp
    signal: ResolvedOp | None
    advantage: tuple[ResolvedUse, ...]
    token_weights: tuple[ResolvedUse, ...]
    sample_weights: tuple[ResolvedUse, ...]
    when: tuple[ResolvedUse, ...]
    pairs: ResolvedUse | None

    @property
    def where(self) -> str:
        return f"terms[{self.index}]"

    @property
    def name(self) -> str:
        return self.term.name or self.objective.spec.name

    @property
    def teacher(self) -> str | None:
        """Whose signal the term has; a reward of an environment comes from that, named or not."""
        return _speaker(self.term.teacher, self.term.signal)

    @property
    def sources(self) -> tuple[str, ...]:
        """Whose rollouts it reads: its own, and those that a preference rejects."""
        rejected = self.pairs.op.params if self.pairs else None
        return (self.term.on, rejected.rejected) if isinstance(rejected, SourcePairsParams) else (self.term.on,)

    @property
    def uses(self) -> tuple[ResolvedUse, ...]:
        """The ops of all slots but signal and objective."""
        pairs = (self.pairs,) if self.pairs else ()
        return (*self.advantage, *self.token_weights, *self.sample_weights, *self.when, *pairs)

    @property
    def reading(self) -> Reading | None:
        """The term's own."""
        if self.teacher is None or self.signal is None:
            return None
        return Reading(f"{self.where}.signal", self.teacher, self.signal)

    @property
    def readings(self) -> tuple[Reading, ...]:
        """Everything that the term asks of teachers."""
        return tuple(one for one in (self.reading, *(use.reading for use in self.uses)) if one)


def resolve_term(term: Term, index: int) -> ResolvedTerm:
    """The ops of a term, or `ConfigurationError` naming the slot."""
    where = f"terms[{index}]"

    def uses(slot: str, *kinds: Kind) -> tuple[ResolvedUse, ...]:
        listed: tuple[Use, ...] = getattr(term, slot)
        places = [f"{where}.{slot}"] if len(listed) == 1 else [f"{where}.{slot}[{place}]" for place in range(len(listed))]
        return tuple(_resolve_use(use, kinds, place, term) for use, place in zip(listed, places, strict=True))

    return ResolvedTerm(
        term,
        index,
        resolve_op(term.objective, Kind.OBJECTIVE, where=f"{where}.objective"),
        resolve_op(term.signal, Kind.SIGNAL, where=f"{where}.signal") if term.signal else None,
        uses("advantage", Kind.ADVANTAGE, Kind.TRANSFORM),
        uses("token_weights", Kind.TOKEN_WEIGHT),
        uses("sample_weights", Kind.SAMPLE_WEIGHT),
        uses("when", Kind.CONDITION),
        _resolve_use(term.pairs, (Kind.PAIRS,), f"{where}.pairs", term) if term.pairs else None,
    )


def _resolve_use(use: Use, kinds: tuple[Kind, ...], where: str, term: Term) -> ResolvedUse:
    op = resolve_op(use, *kinds, where=where)
    signal = _signal_of(use, op, term)
    teacher = _speaker(use.teacher, signal) or term.teacher
    named = use.teacher is not None or use.signal is not None
    if teacher is None or signal is None:
        return ResolvedUse(where, op, None, named)
    return ResolvedUse(where, op, Reading(where, teacher, resolve_op(signal, Kind.SIGNAL, where=f"{where}.signal")), named)


def _speaker(teacher: str | None, signal: OpUse | None) -> str | None:
    return ENVIRONMENT if teacher is None and signal is not None and signal.op == ENVIRONMENT else teacher


def _signal_of(use: Use, op: ResolvedOp, term: Term) -> OpUse | None:
    """The slot's own; else the term's where the op can read it; else the one signal that needs no parameters to be named."""
    readable = op.spec.signals(op.params)
    if use.signal or not readable:
        return use.signal
    if term.signal and term.signal.op in readable:
        return term.signal
    plain = [name for name in sorted(readable - {ENVIRONMENT}) if OPS[name].params is NoParams]
    return OpUse(op=plain[0]) if len(plain) == 1 else None


def resolve_op(use: OpUse, *kinds: Kind, where: str) -> ResolvedOp:
    """The op that a slot names, with its parameters; `kinds` are those that the slot takes."""
    spec = OPS.get(use.op)
    if spec is None or spec.kind not in kinds:
        raise _no_such_op(use.op, spec, kinds, where)
    return ResolvedOp(spec, validate(spec.params, use.params, f"{where}.params"))


def _no_such_op(name: str, spec: OpSpec | None, kinds: tuple[Kind, ...], where: str) -> ConfigurationError:
    hint, wanted = did_you_mean(name, _names(kinds)), " or ".join(kinds)
    if spec is None:
        return ConfigurationError(f"{where}: there is no {wanted} {name!r}", field=where, value=name, hint=hint)
    if Kind.ADVANTAGE in kinds and spec.gradient is Gradient.PATHWISE:
        why = "it is the same whichever token was drawn, so as a detached advantage its expected gradient is zero"
        return ConfigurationError(
            f"{where}: {name} is a divergence; {why}", field=where, value=name, hint=f"set objective: {name} and drop advantage"
        )
    return ConfigurationError(f"{where}: {name} is an op of kind {spec.kind}, not {wanted}", field=where, value=name, hint=hint)


def _names(kinds: tuple[Kind, ...]) -> Iterator[str]:
    return (spec.name for spec in OPS.values() if spec.kind in kinds)
