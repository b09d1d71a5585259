"""`FakeEngine`: a complete engine without a model, shipped for tests and for measuring everything around engines.

Its "model" is a finite automaton: the tokens read so far pick one of a few hundred states, a state times a small integer
head gives the logits. So every signal is exact, consistent with every other, full of ties, and reproducible to the bit.
Time is modelled, failures are scripted.
"""

from preceptor_serving.engines.fake.engine import FakeEngine, create
from preceptor_serving.engines.fake.model import FakeModel
from preceptor_serving.engines.fake.options import FakeOptions

__all__ = ["FakeEngine", "FakeModel", "FakeOptions", "create"]
