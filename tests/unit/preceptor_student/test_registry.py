"""Every op has a spec and its maths under one name."""

from preceptor.recipes.ops import OPS, Kind
from preceptor_student.objectives import ADVANTAGES, OBJECTIVES, SIGNALS


def test_both_registries_hold_the_same_names_of_each_kind():
    maths = {Kind.SIGNAL: SIGNALS, Kind.OBJECTIVE: OBJECTIVES, Kind.ADVANTAGE: ADVANTAGES}
    for kind, registry in maths.items():
        assert set(registry) == {spec.name for spec in OPS.values() if spec.kind is kind}


def test_every_file_is_named_after_its_op():
    for registry in (SIGNALS, OBJECTIVES, ADVANTAGES):
        for name, maths in registry.items():
            function = maths if callable(maths) else maths.usable
            assert function.__module__ == f"preceptor_student.objectives.{name}"
