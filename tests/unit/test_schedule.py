"""Intervals: when they are due, in wall time and in the data's own."""

from dataclasses import replace
from datetime import timedelta

import pytest

from refit import schedule
from refit.batches import Outcome, Upload
from refit.contract import Column, ColumnType, Contract
from refit.metrics import Task
from refit.models import Gates, ModelSpec, Training, Triggers
from refit.policy import interval_due

JAN_1 = "2024-01-01T06:30:00Z"  # a Monday


@pytest.mark.parametrize(
    ("every", "expected"),
    [
        ("1 hour", timedelta(hours=1)),
        ("12 hours", timedelta(hours=12)),
        ("1 day", timedelta(days=1)),
        ("30 days", timedelta(days=30)),
        ("0 days", None),
        ("-1 days", None),
        ("30  days", None),
        ("2 weeks", None),
        ("99999999999 days", None),
        ("٣ days", None),
        ("0 6 * * 1", None),
        ("", None),
    ],
)
def test_the_length_of_an_interval(every, expected):
    assert schedule.length(every) == expected


@pytest.mark.parametrize("every", ["", "1 hour", "30 days", "0 6 * * 1", "*/15 * * * *", "0 0 29 2 *"])
def test_nothing_is_wrong_with_an_interval_or_a_cron_expression(every):
    assert schedule.problem(every) == ""


@pytest.mark.parametrize("every", ["0 days", "2 weeks", "99999999999 days", "61 * * * *", "0 0 30 2 *"])
def test_what_is_neither_is_named_and_told_what_would_be_right(every):
    assert schedule.problem(every).startswith(f'{every!r} is neither "12 hours", "30 days" nor a cron')


@pytest.mark.parametrize(
    ("every", "now", "expected"),
    [
        ("12 hours", "2024-01-01T18:29:59Z", None),
        ("12 hours", "2024-01-01T18:30:00Z", "2024-01-01T18:30:00Z"),
        ("12 hours", "2024-01-02T06:29:59Z", "2024-01-01T18:30:00Z"),
        ("12 hours", "2024-01-04T12:00:00Z", "2024-01-04T06:30:00Z"),  # of six that were missed, the newest
        ("30 days", "2024-01-31T06:29:59Z", None),
        ("30 days", "2024-01-31T06:30:00Z", "2024-01-31T06:30:00Z"),
        ("30 days", "2023-01-01T00:00:00Z", None),  # data older than the last run's
        ("0 6 * * 1", "2024-01-01T23:59:59Z", None),  # this Monday at six was before the last run
        ("0 6 * * 1", "2024-01-08T05:59:59Z", None),
        ("0 6 * * 1", "2024-01-08T06:00:00Z", "2024-01-08T06:00:00Z"),
        ("0 6 * * 1", "2024-01-20T00:00:00Z", "2024-01-15T06:00:00Z"),
        ("30 6 * * 1", "2024-01-02T00:00:00Z", None),  # served by the very run that started then
        ("0 0 29 2 *", "2024-03-01T00:00:00Z", "2024-02-29T00:00:00Z"),
    ],
)
def test_an_interval_is_due_at_its_newest_moment_since_it_was_served(every, now, expected):
    assert schedule.due(every, JAN_1, now) == expected


@pytest.mark.parametrize("every", ["24 hours", "1 day", "30 6 * * *"])
def test_a_day_is_24_hours_where_clocks_change(every):
    """On 2024-03-10 (New York) and 2024-03-31 (Berlin) clocks went forward; UTC has no such days."""
    for day in ("10", "31"):
        since, before = f"2024-03-{int(day) - 1:02}T06:30:00Z", f"2024-03-{day}T06:29:59Z"
        assert schedule.due(every, since, before) is None
        assert schedule.due(every, since, f"2024-03-{day}T06:30:00Z") == f"2024-03-{day}T06:30:00Z"


@pytest.mark.parametrize("every", ["12 hours", "0 * * * *"])
def test_an_occasion_that_was_served_is_not_due_again(every):
    found = schedule.due(every, JAN_1, "2024-01-03T00:00:10Z")
    assert found
    assert schedule.due(every, found, "2024-01-03T00:00:20Z") is None


# ---------------------------------------------------------------- data time and wall time
COLUMNS = (
    Column("at", ColumnType.TIMESTAMP),
    Column("x", ColumnType.NUMBER),
    Column("y", ColumnType.BOOLEAN),
)
TIMED = ModelSpec(
    "churn", Task.BINARY, Contract(COLUMNS, "y", time="at"), Triggers(), Gates("roc_auc"), Training()
)
UNTIMED = replace(TIMED, contract=Contract(COLUMNS[1:], "y"))
WALL = {"last_start": "2030-01-01T00:00:00Z", "now": "2030-01-01T00:10:00Z"}


def batch(first: str, last: str) -> Upload:
    return Upload(last, "churn", last, "v", Outcome.ACCEPTED, batch_id=last, rows=9, period=(first, last))


JANUARY = batch("2013-01-01T00:00:00Z", "2013-01-31T23:00:00Z")
FEBRUARY = batch("2013-02-01T00:00:00Z", "2013-02-28T23:00:00Z")
MARCH = batch("2013-03-01T00:00:00Z", "2013-03-31T23:00:00Z")


def due(spec: ModelSpec, every: str, inputs, last_data=JANUARY.period[1], **wall) -> str | None:
    spec = replace(spec, triggers=Triggers(every=every))
    return interval_due(spec, inputs, **{**WALL, **wall}, last_data=last_data)


def test_a_month_that_arrives_in_a_minute_is_a_month():
    assert due(TIMED, "28 days", [JANUARY]) is None
    assert due(TIMED, "28 days", [JANUARY, FEBRUARY]) == "2013-02-28T23:00:00Z"
    assert due(TIMED, "30 days", [JANUARY, FEBRUARY]) is None
    assert due(TIMED, "30 days", [JANUARY, FEBRUARY, MARCH]) == "2013-03-02T23:00:00Z"


def test_data_that_arrive_late_and_out_of_order_are_not_newer():
    assert due(TIMED, "28 days", [FEBRUARY, JANUARY], FEBRUARY.period[1]) is None
    assert due(TIMED, "28 days", [MARCH, JANUARY], FEBRUARY.period[1]) == "2013-03-28T23:00:00Z"


def test_years_of_wall_time_are_nothing_where_data_have_their_own():
    assert due(TIMED, "1 hour", [JANUARY], now="2099-01-01T00:00:00Z") is None


def test_without_a_time_column_the_clock_on_the_wall_counts_from_the_last_start():
    assert due(UNTIMED, "1 hour", [JANUARY]) is None
    assert due(UNTIMED, "1 hour", [JANUARY], now="2030-01-01T01:00:00Z") == "2030-01-01T01:00:00Z"


def test_a_cron_expression_is_wall_time_for_every_model():
    for spec in (TIMED, UNTIMED):
        assert due(spec, "5 0 * * *", [JANUARY]) == "2030-01-01T00:05:00Z"
        assert due(spec, "15 0 * * *", [JANUARY]) is None


def test_nothing_is_due_without_an_interval_without_data_or_before_the_first_run():
    later = {"now": "2031-01-01T00:00:00Z"}
    assert due(UNTIMED, "", [JANUARY], **later) is None
    assert due(UNTIMED, "1 hour", [], **later) is None
    assert due(UNTIMED, "1 hour", [JANUARY], last_start="", **later) is None
    assert due(TIMED, "1 hour", [replace(FEBRUARY, period=None)], **later) is None


def test_a_last_run_from_before_there_was_a_time_column_lets_all_data_count():
    assert due(TIMED, "28 days", [JANUARY, FEBRUARY], last_data="") == "2013-02-26T00:00:00Z"
    assert due(TIMED, "60 days", [JANUARY, FEBRUARY], last_data="") is None
