"""What is odd about the verdicts of a judge: scores that jump, responses that all have one score, texts that imitate a fence."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from preceptor_proto.v1 import common_pb2, teacher_pb2
from preceptor_teacher.graders.watching import Watch

REWARD, RESPONSES, RESPONSE = "reward", "responses", "response"
FEWEST_REWARDS, JUMP_DEVIATIONS = 50, 4.0
_MARKER = re.compile(r"<<<\s*[0-9a-fA-F]{8,}[^<>]{0,80}(?:begins|ends)\s*>>>")


@dataclass(slots=True)
class Usual:
    """The rewards of one grader so far: how many, their mean, and the sum of squares around it."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0

    def jumps(self, reward: float) -> bool:
        """Whether it is far above what is usual, once enough is known of that; the reward counts from then on."""
        deviation = math.sqrt(self.squares / max(self.count, 1))
        far = self.count >= FEWEST_REWARDS and reward > self.mean + JUMP_DEVIATIONS * max(deviation, 1e-9)
        self.count += 1
        step = reward - self.mean
        self.mean += step / self.count
        self.squares += step * (reward - self.mean)
        return far


class Anomalies:
    """Looks at what a judge was asked and what came of it."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._usual: defaultdict[str, Usual] = defaultdict(Usual)

    def look(self, request: teacher_pb2.GradeRequest, results: Sequence[teacher_pb2.GradeResult]) -> None:
        """Equal responses to a prompt are one; what has no reward is not looked at."""
        grader, rewards = request.spec.grader, defaultdict[tuple[str, str], dict[str, float]](dict)
        for item, result in zip(request.items, results, strict=True):
            if result.verdict.validity == common_pb2.VALIDITY_OK:
                rewards[item.prompt, item.group][item.response] = result.verdict.reward
        for of_prompt in rewards.values():
            if len(of_prompt) > 1:
                self._watch(grader, RESPONSES, "constant" if len(set(of_prompt.values())) == 1 else "varied")
            for response, reward in of_prompt.items():
                self._watch(grader, REWARD, "jump" if self._usual[grader].jumps(reward) else "usual")
                self._watch(grader, RESPONSE, "marked" if _MARKER.search(response) else "plain")
