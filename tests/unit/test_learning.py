"""The learning curve: fits on parts of the rows, what it says of them, and when it is not measured."""

from dataclasses import replace

import numpy as np
import pytest
from moto_stack import MODELS

from refit.errors import TrainingError
from refit.learning import LEAST_ROWS, MOST_ROWS, MOST_SECONDS, curve
from refit.models import load_model

FLIGHTS = load_model(MODELS / "flights")
SPEC = replace(FLIGHTS, gates=replace(FLIGHTS.gates, metric="accuracy", confidence=0.95))
N = 400
TRUTH = np.tile([0, 1], N // 2)
ROWS = np.arange(1000, 2000)


def wrong(every: int) -> np.ndarray:
    """Predictions of which one in so many is wrong."""
    predicted = TRUTH.copy()
    predicted[::every] = 1 - predicted[::every]
    return predicted


def measured(learned_from, rows=ROWS, whole=TRUTH, spec=SPEC, clock=None):
    return curve(learned_from, rows, whole, TRUTH, spec, 2, clock)


def test_a_quarter_and_a_half_are_fitted_the_whole_is_there_already():
    asked = []

    def learned_from(rows):
        asked.append(rows)
        return wrong(4) if len(rows) == 250 else wrong(10)

    found = measured(learned_from)
    assert [(point.rows, point.score) for point in found.points] == [(250, 0.75), (500, 0.9), (1000, 1.0)]
    assert found.gain == pytest.approx(0.1)
    quarter, half = asked
    assert set(quarter) < set(half) < set(ROWS)
    for part in asked:  # in order of time, and from all of it alike
        assert (np.diff(part) > 0).all()
        assert abs(part.mean() - ROWS.mean()) < 60


def test_rows_that_brought_something_for_sure_would_go_on_to():
    found = measured(lambda rows: wrong(5))
    assert found.gain_low > 0
    assert found.message.endswith("more data would still help")
    assert found.message.startswith("1,000 rows instead of 500 brought +0.2000")


def test_rows_that_brought_nothing_for_sure_would_hardly_help():
    found = measured(lambda rows: TRUTH)
    assert (found.gain, found.gain_low, found.gain_high) == (0, 0, 0)
    assert "no more than sampling explains" in found.message


def test_rows_that_made_it_worse_are_named():
    found = measured(lambda rows: TRUTH, whole=wrong(5))
    assert found.gain_high < 0
    assert "rows like these do not help" in found.message


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (MOST_ROWS + 1, "200,001 rows, and it is measured up to 200,000"),
        (2 * LEAST_ROWS - 1, "too few to tell"),
    ],
)
def test_too_many_and_too_few_rows_are_not_fitted_at_all(rows, said):
    def never(rows):
        raise AssertionError

    found = measured(never, np.arange(rows))
    assert found.points == ()
    assert said in found.message


def test_a_model_that_does_not_want_it_is_not_measured():
    off = replace(SPEC, training=replace(SPEC.training, learning_curve=False))
    assert measured(lambda rows: TRUTH, spec=off).message == "not measured: training.learning_curve is false"


def test_a_part_that_takes_long_is_the_last():
    times = iter([0.0, MOST_SECONDS + 1])
    found = measured(lambda rows: TRUTH, clock=lambda: next(times))
    assert [point.rows for point in found.points] == [250, 1000]
    assert (found.gain, found.message) == (
        None,
        "a part took over a minute to fit: half of the rows were not tried",
    )


def test_a_part_that_cannot_be_fitted_is_told_and_is_no_error():
    def fails(rows):
        raise TrainingError("all 250 training rows have the same label")

    found = measured(fails)
    assert found.points == ()
    assert "on 250 of its rows: all 250 training rows have the same label" in found.message


def test_a_score_that_is_not_defined_is_none():
    found = measured(
        lambda rows: np.full(N, np.nan), spec=replace(SPEC, gates=replace(SPEC.gates, metric="roc_auc"))
    )
    assert found.points[0].score is None
    assert found.message == "roc_auc is not defined for all of them"
