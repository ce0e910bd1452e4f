"""Times as they are recorded and told: ISO 8601 in UTC to the second, which orders as text."""

from __future__ import annotations

from datetime import UTC, datetime

from refit.prose import counted

UNITS = (("day", 86_400), ("hour", 3600), ("second", 1))  # with their seconds


def text(moment: datetime) -> str:
    """A time with a zone, as text."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def moment(text: str) -> datetime:
    """The time that a text names; raises ValueError when it names none."""
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def length(seconds: int) -> str:
    """A length of time in the largest unit that holds it wholly, as model.toml says it."""
    unit, size = next(each for each in UNITS if seconds % each[1] == 0)
    return counted(seconds // size, unit)
