"""One column of one batch in the type its contract declares: values, what is empty, what is wrong, what was converted.

A conversion must lose nothing, else the value is of the wrong type. Values are
numpy arrays over Arrow's own memory where that is possible. Arrow's to_numpy and
pa.array are not used: they import pandas where it is installed, which takes a second.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from refit.contract import ColumnType

EXACT_INTEGERS = 2**53  # from it on float64 cannot tell neighbours apart
_SAFE_DIGITS = 15  # of any decimal come back from a float64
_NUMBER = r"^\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*$"
_TRUE, _FALSE = ("true", "t", "yes", "1", "1.0"), ("false", "f", "no", "0", "0.0")
_INFINITE = ("inf", "-inf", "+inf", "infinity", "-infinity", "+infinity")
_ZONE = r"(Z|[+-]([01]\d|2[0-3])(:?[0-5]\d)?)"
_ISO = rf"^\d{{4}}-\d\d-\d\d([ T]\d\d:\d\d(:\d\d(\.\d{{1,9}})?)?{_ZONE}?)?$"
_UNITS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
_DAY = 86_400 * 10**9
FIRST_YEAR, LAST_YEAR = 1678, 2261  # whole years that int64 nanoseconds can tell


def _nanoseconds(year: int) -> int:
    return int((np.datetime64(f"{year}-01-01") - np.datetime64("1970-01-01")).astype(np.int64)) * _DAY


_EARLIEST, _LATEST = _nanoseconds(FIRST_YEAR), _nanoseconds(LAST_YEAR + 1)  # the second is outside


@dataclass(frozen=True)
class Typed:
    """Values of one column of a batch, shape (rows,); masks of that shape, or None for none.

    `values` are float64 (number, integer, boolean), int64 nanoseconds
    (timestamp) or int32 codes into `words` (category; -1 is null). Where `null` or
    `wrong` is set they may be anything. Text has none: it is not learned from.
    `source` is what the values were before a conversion, empty when there was none.
    """

    values: np.ndarray
    null: np.ndarray | None = None
    wrong: np.ndarray | None = None
    words: pa.Array | None = None
    source: str = ""


def typed(array: pa.Array, kind: ColumnType) -> Typed:
    """Read an array as the declared type."""
    if isinstance(array.type, pa.BaseExtensionType):
        array = array.storage
    if kind is ColumnType.TEXT:
        return Typed(np.empty(0), null_mask(array))
    if kind is ColumnType.CATEGORY:
        return _category(array)
    read = _timestamps if kind is ColumnType.TIMESTAMP else _numbers
    if not pa.types.is_dictionary(array.type):
        return read(array, kind)
    # The words are read, once each.
    codes = _codes(array)
    found = read(_plain_text(array.dictionary), kind)
    if not len(found.values):
        return Typed(np.zeros(len(array), found.values.dtype), codes < 0)
    absent = codes < 0
    null = absent if found.null is None else absent | found.null[codes]
    wrong = None if found.wrong is None else found.wrong[codes] & ~absent
    source = f"dictionary of {found.source or array.type.value_type}"
    return Typed(found.values[codes], _some(null), _some(wrong), None, source)


# ---------------------------------------------------------------- numpy over Arrow's memory


def buffer_of(array: pa.Array, kind: Any) -> np.ndarray:
    """The values of a fixed-width array, shape (n,); anything where it is null."""
    if not len(array):
        return np.empty(0, kind)
    return np.frombuffer(array.buffers()[1], kind, array.offset + len(array))[array.offset :]


def null_mask(array: pa.Array) -> np.ndarray | None:
    """Mask of nulls, None when there are none."""
    if array.null_count == 0:
        return None
    if pa.types.is_null(array.type):
        return np.ones(len(array), bool)
    return ~_unpacked(array.buffers()[0], array)


def without(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The values where a mask is not set."""
    if np.count_nonzero(mask) <= len(mask) >> 5:
        return values[~mask]
    return values.take(np.flatnonzero(~mask))  # half the time, or less, when many are left out


def _unpacked(buffer: pa.Buffer, array: pa.Array) -> np.ndarray:
    packed = np.frombuffer(buffer, np.uint8)
    first = array.offset // 8
    last = (array.offset + len(array) + 7) // 8
    found = np.unpackbits(packed[first:last], bitorder="little")
    return found[array.offset - 8 * first :][: len(array)].view(bool)


def truths(array: pa.Array) -> np.ndarray:
    """The mask that an Arrow array of booleans is; null is false."""
    if not len(array):
        return np.zeros(0, bool)
    found = _unpacked(array.buffers()[1], array)
    null = null_mask(array)
    return found if null is None else found & ~null


def arrow_mask(mask: np.ndarray) -> pa.Array:
    packed = np.packbits(mask, bitorder="little")
    return pa.Array.from_buffers(pa.bool_(), len(mask), [None, pa.py_buffer(packed)])


def arrow_indices(values: np.ndarray) -> pa.Array:
    """Positions as an Arrow array of int64."""
    values = np.ascontiguousarray(values, np.int64)
    return pa.Array.from_buffers(pa.int64(), len(values), [None, pa.py_buffer(values)])


def arrow_words(words: tuple[str, ...] | list[str]) -> pa.Array:
    """Strings as an Arrow array."""
    parts = [word.encode("utf-8", "surrogatepass") for word in words]
    offsets = np.zeros(len(parts) + 1, np.int64)
    np.cumsum([len(part) for part in parts], out=offsets[1:])
    data = pa.py_buffer(b"".join(parts))
    return pa.Array.from_buffers(pa.large_string(), len(parts), [None, pa.py_buffer(offsets), data])


def text_of(array: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Bytes of all words, shape (b,), and where each begins and the last ends, shape (words + 1,)."""
    wide = pa.types.is_large_string(array.type) or pa.types.is_large_binary(array.type)
    _, offsets, data = array.buffers()
    if not len(array):
        return np.empty(0, np.uint8), np.zeros(1, np.int64)
    places = np.frombuffer(offsets, np.int64 if wide else np.int32, array.offset + len(array) + 1)
    body = np.frombuffer(data, np.uint8) if data is not None and data.size else np.empty(0, np.uint8)
    return body, places[array.offset :]


def is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def is_binary(kind: pa.DataType) -> bool:
    return (
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_binary_view(kind)
        or pa.types.is_fixed_size_binary(kind)
    )


def _plain_text(array: pa.Array) -> pa.Array:
    return array.cast(pa.large_string()) if pa.types.is_string_view(array.type) else array


def _codes(array: pa.DictionaryArray) -> np.ndarray:
    """int32 codes of a dictionary array, -1 for null."""
    indices = array.indices
    codes = buffer_of(indices, indices.type.to_pandas_dtype())
    null = null_mask(indices)
    if codes.dtype != np.int32:
        codes = codes.astype(np.int32)
    if null is not None:
        codes = np.where(null, np.int32(-1), codes)
    return codes


def _some(mask: np.ndarray | None) -> np.ndarray | None:
    return mask if mask is not None and mask.any() else None


def _all_wrong(array: pa.Array, kind: Any) -> Typed:
    null = null_mask(array)
    wrong = np.ones(len(array), bool) if null is None else ~null
    return Typed(np.zeros(len(array), kind), null, _some(wrong))


# ---------------------------------------------------------------- numbers, integers, booleans


def _numbers(array: pa.Array, kind: ColumnType) -> Typed:
    of = array.type
    if pa.types.is_floating(of):
        return _floats(array, kind)
    if pa.types.is_integer(of):
        return _integers(array, kind)
    if pa.types.is_null(of):
        return Typed(np.zeros(len(array)), null_mask(array))
    if pa.types.is_boolean(of) and kind is ColumnType.BOOLEAN:
        return Typed(truths(array).astype(np.float64), null_mask(array))
    if is_text(of):
        return _words_as_numbers(array, kind)
    if pa.types.is_decimal(of):
        return _decimals(array, kind)
    return _all_wrong(array, np.float64)


def _floats(array: pa.Array, kind: ColumnType) -> Typed:
    null = null_mask(array)
    values = buffer_of(array, array.type.to_pandas_dtype())
    if values.dtype != np.float64:
        values = values.astype(np.float64)
    if len(values) and np.isnan(values.min()):  # the least of what holds a NaN is NaN
        empty = np.isnan(values)
        null = empty if null is None else null | empty
    if kind is ColumnType.NUMBER:
        return Typed(values, null)
    return _checked(values, null, None, kind, str(array.type))


def _checked(
    values: np.ndarray, null: np.ndarray | None, wrong: np.ndarray | None, kind: ColumnType, source: str
) -> Typed:
    """Floats that are to be whole numbers, or 0 and 1; infinite ones are told apart later."""
    with np.errstate(invalid="ignore"):
        if kind is ColumnType.INTEGER:
            bad = (np.abs(values) >= EXACT_INTEGERS) | (values != np.floor(values))
            bad &= np.isfinite(values)
        elif kind is ColumnType.BOOLEAN:
            bad = (values != 0) & (values != 1)
        else:
            bad = np.zeros(len(values), bool)
    if wrong is not None:
        bad |= wrong
    if null is not None:
        bad &= ~null
    return Typed(values, null, _some(bad), None, source)


def _integers(array: pa.Array, kind: ColumnType) -> Typed:
    null = null_mask(array)
    whole = buffer_of(array, array.type.to_pandas_dtype())
    values = whole.astype(np.float64)
    source = "" if kind is ColumnType.INTEGER else str(array.type)
    if kind is ColumnType.BOOLEAN:
        return _checked(values, null, None, kind, source)
    bad = None
    wide = whole.dtype.itemsize == 8 and len(whole)
    if wide and (whole.max() >= EXACT_INTEGERS or whole.min() <= -EXACT_INTEGERS):
        bad = np.abs(values) >= EXACT_INTEGERS
        bad = bad if null is None else bad & ~null
    return Typed(values, null, _some(bad), None, source)


def _decimals(array: pa.Array, kind: ColumnType) -> Typed:
    null = null_mask(array)
    # By way of text: Arrow's own conversion makes 0.09999999999999999 of 0.1 with twenty digits.
    floats = array.cast(pa.string()).cast(pa.float64())
    values, same = buffer_of(floats, np.float64), np.ones(len(array), bool)
    if array.type.precision > _SAFE_DIGITS:  # else every value comes back from its float
        try:
            same = truths(pc.equal(floats.cast(pa.string()).cast(array.type), array))
        except pa.ArrowInvalid:  # one that has more digits than the type
            same = np.array([each.as_py() in (None, _shortest(each.as_py())) for each in array], bool)
    lossy = ~same if null is None else ~same & ~null
    return _checked(values, null, _some(lossy), kind, str(array.type))


def _shortest(value: Any) -> Any:
    """The decimal that the float nearest to a decimal is written as."""
    return None if value is None else type(value)(repr(float(value)))


def _words_as_numbers(array: pa.Array, kind: ColumnType) -> Typed:
    null = null_mask(array)
    text = pc.utf8_lower(pc.utf8_trim_whitespace(array.cast(pa.large_string())))
    if kind is ColumnType.BOOLEAN:
        true = truths(pc.is_in(text, value_set=arrow_words(_TRUE)))
        wrong = ~(true | truths(pc.is_in(text, value_set=arrow_words(_FALSE))))
        wrong = wrong if null is None else wrong & ~null
        return Typed(true.astype(np.float64), null, _some(wrong), None, "text")
    right = truths(pc.match_substring_regex(text, _NUMBER))
    right |= truths(pc.is_in(text, value_set=arrow_words(_INFINITE)))
    if not right.all():
        text = pc.replace_with_mask(
            text, arrow_mask(~right), arrow_words(["0"]).take(arrow_indices(np.zeros(int((~right).sum()))))
        )
    values = buffer_of(pc.replace_substring_regex(text, r"^\+", "").cast(pa.float64()), np.float64)
    wrong = ~right if null is None else ~right & ~null
    return _checked(values, null, _some(wrong), kind, "text")


# ---------------------------------------------------------------- categories


def _category(array: pa.Array) -> Typed:
    of, source = array.type, ""
    if pa.types.is_dictionary(of):
        words = array.dictionary
        if is_text(of.value_type) and words.null_count == 0:
            codes = _codes(array)
            return Typed(codes, _some(codes < 0) if array.null_count else None, None, _plain_words(words))
        source = "" if is_text(of.value_type) else f"dictionary of {of.value_type}"
        array, of = array.cast(of.value_type), of.value_type
    elif pa.types.is_integer(of) or pa.types.is_boolean(of):
        source = str(of)
    elif is_binary(of):
        source = "binary"
    elif not is_text(of) and not pa.types.is_null(of):
        return _no_words(array)
    if not (
        is_text(of)
        or is_binary(of)
        or pa.types.is_integer(of)
        or pa.types.is_boolean(of)
        or pa.types.is_null(of)
    ):
        return _no_words(array)
    try:
        plain = pa.types.is_string(of) or pa.types.is_large_string(of)
        encoded = pc.dictionary_encode(array if plain else array.cast(pa.large_string()))
    except pa.ArrowInvalid:  # bytes that are no text
        return _no_words(array)
    codes = _codes(encoded)
    null = _some(codes < 0) if encoded.null_count else None
    return Typed(codes, null, None, _plain_words(encoded.dictionary), source)


def _no_words(array: pa.Array) -> Typed:
    null = null_mask(array)
    wrong = np.ones(len(array), bool) if null is None else ~null
    return Typed(np.full(len(array), -1, np.int32), null, _some(wrong), arrow_words([]))


def _plain_words(words: pa.Array) -> pa.Array:
    return words if pa.types.is_large_string(words.type) else words.cast(pa.large_string())


# ---------------------------------------------------------------- timestamps


def _timestamps(array: pa.Array, _: ColumnType) -> Typed:
    of = array.type
    if pa.types.is_timestamp(of):
        same = of.unit == "ns" and of.tz == "UTC"
        source = "" if same else str(of) + ("" if of.tz else " without zone, read as UTC")
        return _scaled(buffer_of(array, np.int64), null_mask(array), _UNITS[of.unit], source)
    if pa.types.is_date32(of):
        days = buffer_of(array, np.int32).astype(np.int64)
        return _scaled(days, null_mask(array), _DAY, "date, read as midnight in UTC")
    if pa.types.is_date64(of):
        return _scaled(buffer_of(array, np.int64), null_mask(array), 10**6, "date, read as midnight in UTC")
    if pa.types.is_null(of):
        return Typed(np.zeros(len(array), np.int64), null_mask(array))
    if is_text(of):
        return _words_as_timestamps(array.cast(pa.large_string()))
    return _all_wrong(array, np.int64)


def _scaled(ticks: np.ndarray, null: np.ndarray | None, factor: int, source: str) -> Typed:
    low, high = -(-_EARLIEST // factor), -(-_LATEST // factor)
    wrong = None
    if len(ticks) and (ticks.min() < low or ticks.max() >= high):
        outside = (ticks < low) | (ticks >= high)
        wrong = _some(outside if null is None else outside & ~null)
        ticks = np.where(outside, 0, ticks)
    return Typed(ticks if factor == 1 else ticks * factor, null, wrong, None, source)


def _words_as_timestamps(text: pa.Array) -> Typed:
    null = null_mask(text)
    try:
        zone = _plain_iso(text)
        if zone is not None:
            stamps = text.cast(pa.timestamp("ns", zone or None))
            found = _scaled(buffer_of(stamps, np.int64), null, 1, "")
            return Typed(found.values, null, found.wrong, None, "text")
    except pa.ArrowInvalid:
        pass  # at least one is no date; which, the long way tells
    text = pc.utf8_trim_whitespace(text)
    right = truths(pc.match_substring_regex(text, _ISO))
    right[right] = _exist(text.filter(arrow_mask(right)))
    if not right.all():
        filling = arrow_words(["1970-01-01"]).take(arrow_indices(np.zeros(int((~right).sum()))))
        text = pc.replace_with_mask(text, arrow_mask(~right), filling)
    # All with a zone, for Arrow reads either those with or those without one.
    text = pc.replace_substring_regex(text, r"^(\S{10})$", r"\1 00:00")
    text = pc.replace_substring_regex(text, r"([ T][\d:.]+)$", r"\1Z")
    stamps = _scaled(buffer_of(text.cast(pa.timestamp("ns", "UTC")), np.int64), null, 1, "text")
    wrong = ~right if null is None else ~right & ~null
    if stamps.wrong is not None:  # its zone takes it out of the years
        wrong |= stamps.wrong
    return Typed(stamps.values, null, _some(wrong), None, "text")


def _plain_iso(text: pa.Array) -> str | None:
    """The zone, or none, with which Arrow's own parser takes what the pattern takes of these words, and nothing else.

    None when their lengths or their ends do not tell.
    """
    body, places = text_of(text)
    lengths, ends = np.diff(places), places[1:]
    null = null_mask(text)
    if null is not None:
        lengths, ends = lengths[~null], ends[~null]
    if not len(lengths):
        return ""
    if lengths.min() < 10 or lengths.max() > 30:
        return None
    zones = body[ends - 1] == ord("Z")
    in_utc = bool(zones.all())
    if zones.any() and not in_utc:
        return None
    of = np.bincount(lengths - in_utc, minlength=31)
    fine = (0 if in_utc else of[10]) + of[16] + of[19] + of[21:30].sum()
    return ("UTC" if in_utc else "") if fine == len(lengths) else None


def _exist(text: pa.Array) -> np.ndarray:
    """Which of the words, all of the form of a date and time, name a moment within the years; shape (n,)."""
    if not len(text):
        return np.zeros(0, bool)
    body, places = text_of(text)
    begins = places[:-1].astype(np.int64)
    lengths = np.diff(places)

    def number(at: int, digits: int) -> np.ndarray:
        there = lengths >= at + digits
        found = np.zeros(len(begins), np.int64)
        for i in range(at, at + digits):
            found = found * 10 + np.where(
                there, body[np.minimum(begins + i, len(body) - 1)].astype(np.int64) - 48, 0
            )
        return found

    year, month, day = number(0, 4), number(5, 2), number(8, 2)
    leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    days = np.array([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])[np.clip(month, 0, 12)]
    fine = (year >= FIRST_YEAR) & (year <= LAST_YEAR) & (month >= 1) & (month <= 12)
    fine &= (day >= 1) & (day <= days + (leap & (month == 2)))
    return fine & (number(11, 2) < 24) & (number(14, 2) < 60) & (number(17, 2) < 60)
