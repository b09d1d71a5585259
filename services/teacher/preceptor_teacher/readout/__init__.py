"""Hidden states to signals: the one place where logits exist, a chunk of rows at a time.

`Head` turns states into logits, `RowSpec` says what is wanted of each row, `readout` answers. Nothing here knows an engine.
"""

from preceptor_serving.models.vocabulary_head import Head
from preceptor_teacher.readout.columns import ReadoutRows
from preceptor_teacher.readout.run import readout
from preceptor_teacher.readout.spec import RowSpec, Signals

__all__ = ["Head", "ReadoutRows", "RowSpec", "Signals", "readout"]
