"""Every op has a spec and its maths under one name."""

from preceptor.recipes.ops import OPS, Kind
from preceptor_student import objectives

MATHS = {
    Kind.SIGNAL: objectives.SIGNALS,
    Kind.OBJECTIVE: objectives.OBJECTIVES | objectives.PREFERENCES,
    Kind.ADVANTAGE: objectives.ADVANTAGES,
    Kind.TRANSFORM: objectives.TRANSFORMS,
    Kind.TOKEN_WEIGHT: objectives.TOKEN_WEIGHTS,
    Kind.SAMPLE_WEIGHT: objectives.SAMPLE_WEIGHTS,
    Kind.CONDITION: objectives.CONDITIONS,
    Kind.PAIRS: objectives.PAIRINGS,
}
FUNCTIONS = ("over_batch", "over_steps", "loss", "per_row", "apply", "select", "choose")  # an op's own come first


def test_both_registries_hold_the_same_names_of_each_kind():
    assert MATHS.keys() == {*Kind}
    for kind, registry in MATHS.items():
        assert set(registry) == {spec.name for spec in OPS.values() if spec.kind is kind}


def test_every_file_is_named_after_its_op():
    for registry in MATHS.values():
        for name, maths in registry.items():
            function = maths if callable(maths) else next(found for one in FUNCTIONS if (found := getattr(maths, one, None)))
            assert function.__module__ == f"preceptor_student.objectives.{name}"
