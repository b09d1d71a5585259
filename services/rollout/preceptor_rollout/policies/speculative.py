"""Student proposals, kept where they are among the teacher's likeliest ids, else replaced by a draw of the teacher's.

A token y comes about in two ways: proposed and kept, or drawn by the teacher after any proposal that was not kept. With K the
teacher's likeliest ids, its probability is [y in K] student(y) + student(outside K) * teacher(y): that is what is logged, for
kept and replaced tokens alike. `accepted` and `replaced` say which of the two it was.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from preceptor.recipes.policies.speculative import SpeculativeParams
from preceptor.types import Provenance
from preceptor_rollout.policies.base import Advice, Ask, Chance, Choice, Proposed, at, everyone, outside


@dataclass(frozen=True)
class Speculative:
    """SKD's interleaving, a token or a block at a time: the draws are the same."""

    params: SpeculativeParams

    @property
    def ask(self) -> Ask:
        return Ask(topk=self.params.accept_topk, draw=True, drafts=self.params.block_tokens)

    def asks(self, chance: Chance) -> NDArray[np.bool_]:
        return everyone(chance)

    def choose(self, student: Proposed, teacher: Advice, chance: Chance) -> Choice:
        kept_b = (teacher.top_ids_bk == student.ids_b[:, None]).any(-1)
        ids_b = torch.where(kept_b, student.ids_b, teacher.drawn_b)
        listed_bk = teacher.top_ids_bk == ids_b[:, None]
        is_listed_b = listed_bk.any(-1)
        teacher_b = torch.where(is_listed_b, at(teacher.top_bk, listed_bk.long().argmax(-1)), teacher.drawn_logprob_b).double()
        kept_way_b = torch.where(is_listed_b, at(student.log_probs_bt, ids_b).double(), -torch.inf)
        behaviour_b = torch.logaddexp(kept_way_b, outside(student.log_probs_bt, teacher.top_ids_bk) + teacher_b)
        provenance_b = np.where(kept_b.cpu().numpy(), Provenance.ACCEPTED, Provenance.REPLACED).astype(np.uint8)
        return Choice(ids_b, behaviour_b.float(), provenance_b)
