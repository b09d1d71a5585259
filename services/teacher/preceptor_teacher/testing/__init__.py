"""A provider to try black-box distillation with, without a key and without a network.

`python -m preceptor_teacher.testing --model DIR --port N` serves a model folder in the shapes of OpenAI, Azure and Anthropic;
`standing_in` is the same inside a test. It sees the text of requests and nothing else: no labels, no checker, no student.

It is honest about one thing that a real provider would not need: a small model cannot talk about a text, so the stand-in
*plays* a judge. Asked for a verdict, it lets its model answer the prompt by itself, greedily, and says how many of the steps of
that answer the judged response has in the same place. The opinion is the model's own; the sentence around it is not.
"""

from preceptor_teacher.testing.faults import FAULTS, FaultPlan
from preceptor_teacher.testing.provider import Provider, StandIn, standing_in

__all__ = ["FAULTS", "FaultPlan", "Provider", "StandIn", "standing_in"]
