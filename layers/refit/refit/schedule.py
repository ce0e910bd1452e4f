"""Intervals: every N hours or days, or a cron expression."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from refit import times

_EVERY = re.compile("([1-9][0-9]{0,4}) (hour|hours|day|days)")


def problem(every: str) -> str:
    """What is wrong with an interval; empty when nothing is."""
    if not every or length(every):
        return ""
    from cronsim import CronSim, CronSimError  # few models need it, every command would pay for it

    try:
        CronSim(every, datetime(2000, 1, 1, tzinfo=UTC))
    except CronSimError as error:
        return (
            f'{every!r} is neither "12 hours", "30 days" nor a cron expression such as "0 6 * * 1" ({error})'
        )
    return ""


def length(every: str) -> timedelta | None:
    """The interval of "N hours" or "N days"; None for a cron expression."""
    found = _EVERY.fullmatch(every)
    if not found:
        return None
    return timedelta(**{found[2].rstrip("s") + "s": int(found[1])})


def due(every: str, since: str, now: str) -> str | None:
    """The newest moment after `since` and up to `now` at which the interval was due; None when there is none.

    Times are ISO 8601 in UTC; wall time, or the data's own where a model has a time column.
    """
    start, end = times.moment(since), times.moment(now)
    step = length(every)
    if step:
        steps = (end - start) // step
        return times.text(start + steps * step) if steps >= 1 else None
    from cronsim import CronSim

    newest = next(CronSim(every, end + timedelta(seconds=1), reverse=True))
    return times.text(newest) if newest > start else None
