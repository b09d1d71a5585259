"""The ways in which one engine may come to score a token, each against every sequence scored alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from collections.abc import Sequence as Items
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from benchmarks.scoring.deviations import Deviations, deviations, joined, sampled_of
from preceptor import wire
from preceptor.types import Grade, ModelRef, Rows, Scored, ScoreItem, Sequence, Want, Window
from preceptor_serving.engines.protocol import Engine, Outcome
from preceptor_teacher.engines.hf import create
from preceptor_teacher.growing import Growth

GROUP, PROMPT_TOKENS, RESPONSE_TOKENS, TOPK = 4, (20, 90), (10, 120), 8
GRADES = (Grade.F16, Grade.U8)


class GrowingEngine(Engine, Protocol):
    """An engine that keeps what it knows of a sequence that grows."""

    def score_growing(
        self, items: Items[ScoreItem], growths: Items[Growth | None], version: ModelRef | None = None
    ) -> list[Outcome]: ...


@dataclass(frozen=True, slots=True)
class Scene:
    """An engine, sequences in groups of one prompt, and the rows of each of them alone: none in a mode that the engine lacks."""

    folder: Path
    engine: GrowingEngine
    sequences: tuple[Sequence, ...]
    alone: tuple[Rows, ...]
    alone_deterministic: tuple[Rows, ...]
    rounds: int

    @classmethod
    def of(cls, folder: Path, count: int, rounds: int) -> Scene:
        """Of random ids, in groups."""
        engine = create({"name": "teacher", "folder": folder})
        return cls.of_sequences(folder, engine, random_groups(engine.describe()[0].tokenizer_size, count), rounds)

    @classmethod
    def of_sequences(cls, folder: Path, engine: GrowingEngine, sequences: Iterable[Sequence], rounds: int) -> Scene:
        sequences = tuple(sequences)
        fixed = sequences if engine.describe()[0].capabilities.deterministic else ()
        return cls(folder, engine, sequences, _alone(engine, sequences, False), _alone(engine, fixed, True), rounds)

    @property
    def modes(self) -> tuple[bool, ...]:
        """Free, and deterministic where the engine can."""
        return (False, True) if self.alone_deterministic else (False,)

    def expected(self, deterministic: bool) -> tuple[Rows, ...]:
        return self.alone_deterministic if deterministic else self.alone

    def against_float64(self) -> Deviations:
        """All tokens of all rows would be too many to list: the sampled one, and the best eight."""
        model = AutoModelForCausalLM.from_pretrained(self.folder, dtype=torch.float64, local_files_only=True)
        pairs = []
        for sequence, rows in zip(self.sequences, self.alone, strict=True):
            with torch.inference_mode():
                logits = model(torch.from_numpy(sequence.ids.astype(np.int64))[None]).logits[0]
            exact = logits.log_softmax(-1).numpy()[sequence.targets - 1]
            pairs.append((sampled_of(rows), exact[np.arange(len(exact)), sequence.response_ids]))
            assert rows.topk is not None, "every want here has a topk"
            pairs.append((rows.topk.logprobs, np.take_along_axis(exact, rows.topk.ids.astype(np.int64), 1)))
        return deviations("sampled and top-8 against the whole model in float64", pairs)

    def grade_over_bound(self, grade: Grade) -> Deviations:
        """Error of a payload through its bytes, over the bound that the receipt states for it."""
        head_rows = self.engine.describe()[0].head_rows
        errors = []
        for rows in self.alone:
            message, cost = wire.rows_to_proto(rows, grade, head_rows)
            back = wire.rows_from_proto(message, head_rows=head_rows)
            assert rows.topk is not None, "every want here has a topk"
            assert back.topk is not None, "a payload carries what was put into it"
            errors.append((back.topk.logprobs, rows.topk.logprobs, cost.error_bound_nats))
        over = [deviations("", [(got, sent)]).values / bound for got, sent, bound in errors]
        return Deviations(f"error of a {grade} payload over its stated bound", np.concatenate(over))


def random_groups(tokens: int, count: int, seed: int = 3) -> list[Sequence]:
    """Rollouts in groups that share a prompt."""
    rng = np.random.default_rng(seed)
    found: list[Sequence] = []
    while len(found) < count:
        prompt = rng.integers(0, tokens, rng.integers(*PROMPT_TOKENS))
        found += [Sequence.of(prompt, rng.integers(0, tokens, rng.integers(*RESPONSE_TOKENS))) for _ in range(GROUP)]
    return found[:count]


def item(sequence: Sequence, deterministic: bool, window: Window | None = None) -> ScoreItem:
    return ScoreItem(sequence, Want(sampled=True, topk=TOPK, deterministic=deterministic, window=window))


def _alone(engine: Engine, sequences: Iterable[Sequence], deterministic: bool) -> tuple[Rows, ...]:
    return tuple(_only(engine.score([item(one, deterministic)])) for one in sequences)


def _only(outcomes: list[Outcome]) -> Rows:
    return _rows(outcomes)[0]


def _rows(outcomes: list[Outcome]) -> list[Rows]:
    for one in outcomes:
        if not isinstance(one, Scored):
            raise one
    return [one.rows for one in outcomes if isinstance(one, Scored)]


def orders(scene: Scene, deterministic: bool = False) -> Deviations:
    """Every round another order of the batch."""
    pairs = []
    for seed in range(scene.rounds):
        order = np.random.default_rng(seed).permutation(len(scene.sequences))
        got = _rows(scene.engine.score([item(scene.sequences[i], deterministic) for i in order]))
        pairs += [(sampled_of(rows), sampled_of(scene.expected(deterministic)[i])) for i, rows in zip(order, got, strict=True)]
    return deviations(f"{scene.rounds} batch orders{_suffix(deterministic)}", pairs)


def sharing(scene: Scene, deterministic: bool = False) -> Deviations:
    """Groups that arrive together and read their prompt once."""
    growths = [Growth("job", f"once-{i}", open=False, kept=False) for i in range(len(scene.sequences))]
    got = _rows(scene.engine.score_growing([item(one, deterministic) for one in scene.sequences], growths))
    pairs = zip(map(sampled_of, got), map(sampled_of, scene.expected(deterministic)), strict=True)
    return deviations(f"prefix sharing on against off{_suffix(deterministic)}", pairs)


def chunkings(scene: Scene, deterministic: bool = False) -> Deviations:
    """Growing logs, cut anew in every round."""
    return _grown(scene, deterministic, scene.engine, "chunkings of a growing log")


def takeovers(scene: Scene, deterministic: bool = False) -> Deviations:
    """The same without any state kept: each chunk is computed by somebody who knows nothing."""
    return _grown(scene, deterministic, create({"name": "teacher", "folder": scene.folder, "state_tokens": 0}), "takeovers")


def _grown(scene: Scene, deterministic: bool, engine: GrowingEngine, what: str) -> Deviations:
    pairs = []
    for number in range(scene.rounds):
        index = number % len(scene.sequences)
        parts = list(_chunks(engine, scene.sequences[index], deterministic, number))
        pairs.append((joined(parts), sampled_of(scene.expected(deterministic)[index])))
    return deviations(f"{scene.rounds} {what}{_suffix(deterministic)}", pairs)


def _chunks(engine: GrowingEngine, sequence: Sequence, deterministic: bool, seed: int) -> list[Rows]:
    rng, prompt = np.random.default_rng(seed), sequence.segments[0].ids
    parts: list[Rows] = []
    for cut in [*sorted(rng.integers(1, sequence.row_count + 1, 4).tolist()), sequence.row_count]:
        known = Sequence.of(prompt, sequence.response_ids[:cut])
        window = Window(sum(part.count for part in parts), cut)
        growth = Growth("job", f"grown-{deterministic}-{seed}", open=cut < sequence.row_count)
        parts += _rows(engine.score_growing([item(known, deterministic, window)], [growth]))
    return parts


def _suffix(deterministic: bool) -> str:
    return ", deterministic" if deterministic else ""


def _fixed(way: Callable[[Scene, bool], Deviations]) -> Callable[[Scene], Deviations]:
    return lambda scene: way(scene, True)


def _free(way: Callable[[Scene, bool], Deviations]) -> Callable[[Scene], Deviations]:
    return lambda scene: way(scene, False)


_EACH = {"orders": orders, "sharing": sharing, "chunkings": chunkings, "takeovers": takeovers}
WAYS: Mapping[str, Callable[[Scene], Deviations]] = {
    **{name: _free(way) for name, way in _EACH.items()},
    **{f"{name}.deterministic": _fixed(way) for name, way in _EACH.items()},
}
