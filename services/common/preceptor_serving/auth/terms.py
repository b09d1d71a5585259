"""On what terms a tenant's work is taken: quotas, the weight of its flows, the bands it may ask for."""

from __future__ import annotations

from dataclasses import dataclass, replace

from preceptor.errors import PermissionDenied
from preceptor.queue.quotas import QuotaLimits
from preceptor.queue.ranks import BANDS

ALL_BANDS = tuple(range(BANDS))
DEFAULT_WEIGHT = 1.0
LEAST_WEIGHT, LARGEST_WEIGHT = 0.01, 100.0
NO_LIMITS = QuotaLimits()


@dataclass(frozen=True, slots=True)
class Terms:
    """What the operator granted. `limits` are the tenant's, shared by all of its keys; weight and bands may be a key's own."""

    limits: QuotaLimits = NO_LIMITS
    weight: float = DEFAULT_WEIGHT
    bands: tuple[int, ...] = ALL_BANDS  # ascending, never empty

    def band_for(self, asked: int) -> int:
        """The band to serve a request in. 0 is what a request without a band says: the most urgent one that is allowed."""
        if asked == 0:
            return self.bands[0]
        if asked not in self.bands:
            raise PermissionDenied(
                f"this key may not use band {asked}",
                field="band",
                value=asked,
                limit=", ".join(map(str, self.bands)),
                hint="0 stands for the most urgent band that the key allows",
            )
        return asked

    def narrowed(self, weight: float | None, bands: tuple[int, ...] | None) -> Terms:
        """The terms of a key that has a weight or bands of its own; limits stay the tenant's."""
        return replace(self, weight=weight or self.weight, bands=bands or self.bands)


UNLIMITED = Terms()
"""Of everybody, where nothing else is said."""
