"""Times as they are recorded and told: ISO 8601 in UTC to the second, which orders as text."""

from __future__ import annotations

from datetime import UTC, datetime


def text(moment: datetime) -> str:
    """A time with a zone, as text."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def moment(text: str) -> datetime:
    """The time that a text names; raises ValueError when it names none."""
    return datetime.fromisoformat(text.replace("Z", "+00:00"))
