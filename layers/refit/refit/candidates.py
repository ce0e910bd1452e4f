"""Which of the declared candidates make sense, told from the declaration and numbers of rows alone.

The door asks this at every start of a run: nothing here needs numpy.
"""

from __future__ import annotations

from typing import Protocol

from refit.models import CONTINUED, ModelSpec


class Known(Protocol):
    """What is known of a champion without loading it."""

    @property
    def features(self) -> tuple[dict[str, str], ...]: ...


def applicable(spec: ModelSpec, rows: int, champion: Known | None) -> tuple[str, ...]:
    """The declared candidates that make sense on so many rows, beside that champion.

    "recent" is left out where it would be the same as another, what goes on from the champion where there
    is none, or one with other features. Where nothing is left, a first model is made by a full fit.
    """
    features = features_of(spec)
    fits = champion is not None and tuple(champion.features) == features
    names = [name for name in spec.training.candidates if fits or name not in CONTINUED]
    window = recent_rows(spec, rows)
    too_few = spec.training.recent_rows is None and (champion is None or window < spec.gates.min_test_rows)
    if (rows <= window or too_few) and "full" in names:
        names = [name for name in names if name != "recent"]
    return tuple(names) or ("full",)


def recent_rows(spec: ModelSpec, rows: int) -> int:
    """What the candidate "recent" learns from, of so many: as declared, else the newest quarter."""
    return spec.training.recent_rows or max(1, rows // 4)


def features_of(spec: ModelSpec) -> tuple[dict[str, str], ...]:
    """Name and type of each column that an estimator is shown."""
    return tuple({"name": column.name, "type": column.type.value} for column in spec.contract.features)
