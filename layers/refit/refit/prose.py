"""Numbers as they stand in a sentence."""

from __future__ import annotations


def counted(number: int, one: str, many: str = "") -> str:
    """A number with its noun: `1 row`, `2 rows`; `many` is the plural where it is not `one` with an s."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def signed(value: float) -> str:
    """A difference of scores with its sign, to four places; one too small for them does not read as zero."""
    return f"{value:+.0e}" if 0 < abs(value) < 0.00005 else f"{value:+.4f}"
