import pytest

from refit.batches import Code, Reason, condensed
from refit.prose import counted, signed


def test_a_number_agrees_with_its_noun():
    assert [counted(n, "row") for n in (0, 1, 2)] == ["0 rows", "1 row", "2 rows"]
    assert [counted(n, "category", "categories") for n in (1, 2)] == ["1 category", "2 categories"]


@pytest.mark.parametrize(
    "value, shown",
    [
        (0.0183, "+0.0183"),
        (-0.00056, "-0.0006"),
        (0.0, "+0.0000"),
        (0.00003, "+3e-05"),
        (-0.0000004, "-4e-07"),
    ],
)
def test_a_difference_that_is_not_zero_does_not_read_as_zero(value, shown):
    assert signed(value) == shown


def converted(*names):
    return [Reason(Code.COERCED, f"{name} was read", name, 10) for name in names]


def test_many_conversions_are_told_in_one_line_after_all_else():
    late = Reason(Code.OUT_OF_RANGE, "too far", "x", 2)
    found = condensed([*converted("a", "b"), late, *converted("c", "d", "e")])
    message = "5 columns read as the types of the contract, nothing was lost: 'a', 'b', 'c' and 2 more."
    assert found == [late, Reason(Code.COERCED, message, None, 50)]


def test_a_single_conversion_is_told_as_it_is():
    assert condensed(converted("a")) == converted("a")
    assert condensed([]) == []
