"""omniopd from its formulas: an objective of the reference loop, whose `teacher` is the student as it began.

The judge's side is the bundled teacher, greedy, token by token, from the prompt and the bytes before each word. Shapes as in
`opd_loop`; a response is words, and its end is one more without any. Nothing here reads the code that is tested.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import PreTrainedModel as Model

from examples.tiny.decode import text_of
from examples.tiny.tokenizer import EOS_ID, FIRST_BYTE_ID
from tests.reference.opd_loop import Rollouts, Settings

SPACE = FIRST_BYTE_ID + ord(" ")
AUDITS, OWN, ANCHOR, TOP, MOST_TOKENS = 3, 0.25, 0.1, 8, 40


@dataclass
class Audited:
    """The objective; what the judge has once gone on with it goes on with again."""

    judge: Model
    known: dict[tuple[int, ...], str] = field(default_factory=dict[tuple[int, ...], str])

    def __call__(self, student: Tensor, origin: Tensor, rollouts: Rollouts, settings: Settings) -> Tensor:
        """The mean over audited rows of minus belief times log student, and a tenth of the others' mean KL from the origin."""
        log_BR = student.gather(-1, rollouts.response_BR[..., None])[..., 0]
        belief_BR = torch.full_like(log_BR, torch.nan).detach()
        for place in range(len(log_BR)):
            rows = int(rollouts.valid_BR[place].sum())
            ids, prompt = rollouts.response_BR[place, :rows].tolist(), rollouts.prompt_ids_BP[place].tolist()
            for word, reward in self._rewards(prompt, ids, log_BR[place, :rows].detach()):
                at = [row for row, one in enumerate(words_of(ids)) if one == word]
                belief_BR[place, at] = (reward + OWN * log_BR[place, at].detach().mean().exp()) / (1 + OWN)
        judged_BR = belief_BR.isfinite() & rollouts.valid_BR
        left_BR = rollouts.valid_BR & ~judged_BR
        kept_BR = forward_kl(student, origin, rollouts) * left_BR / left_BR.sum().clamp_min(1)
        audited_BR = -(belief_BR.where(judged_BR, 0.0) * log_BR) / judged_BR.sum()
        return (audited_BR + ANCHOR * kept_BR) * rollouts.valid_BR.sum()

    def _rewards(self, prompt: list[int], ids: list[int], log_R: Tensor) -> Iterator[tuple[int, float]]:
        """(word, whether the judge writes it too) of the words with the least likely tokens, the end being the last word."""
        words, text = words_of(ids), text_of(ids).split()
        count, unsure = len(text) + 1, [words[row] for row in log_R.argsort(stable=True).tolist()]
        even = [(2 * turn + 1) * count // (2 * AUDITS) for turn in range(AUDITS)]
        every = list(range(count))
        for word in every if count <= AUDITS else list(dict.fromkeys([*unsure, *even, *every]))[:AUDITS]:
            before = [one for row, one in enumerate(ids) if words[row] < word and one >= FIRST_BYTE_ID]
            yield word, float(self._word_behind(tuple(prompt + before)) == (text[word] if word < len(text) else ""))

    @torch.no_grad()
    def _word_behind(self, ids: tuple[int, ...]) -> str:
        """The next word that the judge writes; nothing where it ends."""
        if ids not in self.known:
            written: list[int] = []
            while len(written) < MOST_TOKENS and not (SPACE in written and text_of(written).split() and written[-1] == SPACE):
                out = self.judge(input_ids=torch.tensor([[*ids, *written]]), use_cache=False, logits_to_keep=1)
                token = int(out.logits[0, -1].argmax())
                if token == EOS_ID:
                    break
                written.append(token)
            self.known[ids] = (text_of(written).split() or [""])[0]
        return self.known[ids]


def words_of(ids: list[int]) -> list[int]:
    """Which word each token is in: a space is of the later one, and what is no byte stands behind the last."""
    word, found, seen = 0, list[int](), False
    for one in ids:
        word += int(one == SPACE and seen)
        seen = seen or one != SPACE
        found.append(word if one >= FIRST_BYTE_ID else len(text_of(ids).split()))
    return found


def forward_kl(student: Tensor, origin: Tensor, rollouts: Rollouts) -> Tensor:
    """KL(origin || student) on both sides' likeliest tokens, the drawn one, and all others as one."""
    ids = torch.cat([origin.topk(TOP).indices, rollouts.top_ids_BRk, rollouts.response_BR[..., None]], -1)
    inside = torch.zeros_like(origin, dtype=torch.bool).scatter(-1, ids, value=True)
    tails = [side.masked_fill(inside, -torch.inf).logsumexp(-1) for side in (student, origin)]
    return (origin.exp() * (origin - student) * inside).sum(-1) + tails[1].exp() * (tails[1] - tails[0])
