"""Times as text: ISO 8601 in UTC to the second."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from refit import times

NINE = datetime(2013, 4, 1, 9, 30, 5, tzinfo=UTC)


def test_a_time_of_any_zone_is_told_in_utc_to_the_second():
    there = NINE.replace(microsecond=999_999).astimezone(timezone(timedelta(hours=5, minutes=30)))
    assert there.hour == 15
    assert times.text(there) == times.text(NINE) == "2013-04-01T09:30:05Z"


def test_what_is_written_is_read_again_and_so_is_what_aws_writes():
    assert times.moment(times.text(NINE)) == NINE
    assert times.moment("2013-04-01T11:30:05.000+0200") == NINE


@pytest.mark.parametrize("text", ["", "yesterday", "2013-13-01T00:00:00Z"])
def test_what_names_no_time_is_refused(text):
    with pytest.raises(ValueError, match=r"isoformat|month"):
        times.moment(text)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (52 * 86_400, "52 days"),
        (86_400, "1 day"),
        (43_200, "12 hours"),
        (3600, "1 hour"),
        (90, "90 seconds"),
        (1, "1 second"),
    ],
)
def test_a_length_is_told_in_the_largest_unit_that_holds_it(seconds, words):
    assert times.length(seconds) == words
