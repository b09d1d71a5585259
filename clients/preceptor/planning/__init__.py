"""What a run will take, before anything is started or paid: work, calls, cost, memory; every figure a range with its reason."""

from preceptor.planning.estimate import HEADER, Estimate, estimate_run
from preceptor.planning.like import Observed, observed
from preceptor.planning.machine import Fit, fits_of
from preceptor.planning.memory import Part, parts_of
from preceptor.planning.placed import planned_parts
from preceptor.planning.prices import Price, read_prices
from preceptor.planning.ranges import Range
from preceptor.planning.shape import ModelShape, shape_of_folder

__all__ = [
    "HEADER",
    "Estimate",
    "Fit",
    "ModelShape",
    "Observed",
    "Part",
    "Price",
    "Range",
    "estimate_run",
    "fits_of",
    "observed",
    "parts_of",
    "planned_parts",
    "read_prices",
    "shape_of_folder",
]
