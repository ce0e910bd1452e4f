"""From the bytes of an upload to a verdict, typed rows and reasons."""

import datetime as dt
import decimal
import gzip
import io
import tempfile
import uuid
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from refit.batches import Reason
from refit.contract import Column, ColumnType, Contract
from refit.reading import Limits
from refit.shard import NAT, Shard, load
from refit.validation import Code, Verdict, validate_file

SECOND = 1_000_000_000
NOON = int(dt.datetime(2024, 3, 31, 12, tzinfo=dt.UTC).timestamp()) * SECOND
CONTRACT = Contract(
    columns=(
        Column("id", ColumnType.TEXT),
        Column("at", ColumnType.TIMESTAMP),
        Column("x", ColumnType.NUMBER, nulls=0.5),
        Column("city", ColumnType.CATEGORY, nulls=0.5),
        Column("y", ColumnType.BOOLEAN),
    ),
    target="y",
    time="at",
    keys=("id",),
)
ROWS = {
    "id": ["a", "b", "c"],
    "at": ["2024-03-31", "2024-03-31 12:00:00", "2024-03-31T12:00:00.5Z"],
    "x": ["1", "-2.5e1", ""],
    "city": ["Ulm", "", "Bonn"],
    "y": ["true", "0", "no"],
}
CSV = "\n".join([",".join(ROWS), *map(",".join, zip(*ROWS.values(), strict=True))]).encode() + b"\n"


def parquet(table: pa.Table, **options) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, **options)
    return buffer.getvalue()


@dataclass(frozen=True)
class Judged:
    """A verdict, and the shard that was written, read back."""

    verdict: Verdict
    shard: Shard | None

    def __getattr__(self, name):
        return getattr(self.verdict, name)


def judged(tmp_path: Path, data: bytes, contract: Contract = CONTRACT, **options) -> Judged:
    path, written = tmp_path / "upload", tmp_path / "shard"
    path.write_bytes(data)
    if "max_bytes" in options:
        options["limits"] = Limits(10**9, options.pop("max_bytes"))
    verdict = validate_file(path, contract, shard=written, folder=tmp_path, **options)
    assert written.exists() == verdict.accepted
    shard = load(written.read_bytes()) if verdict.accepted else None
    written.unlink(missing_ok=True)
    return Judged(verdict, shard)


def validated(table: pa.Table, contract: Contract, **options) -> Judged:
    """Of a table, by way of a Parquet file; views are such only in memory."""
    views = {pa.string_view(): pa.string(), pa.binary_view(): pa.binary()}
    for i, field in enumerate(table.schema):
        if field.type in views:
            table = table.set_column(i, field.name, table.column(i).cast(views[field.type]))
    with tempfile.TemporaryDirectory() as folder:
        return judged(Path(folder), parquet(table, **options), contract)


def one(kind: str, **rules) -> Contract:
    """A contract of one column `v` beside a target that is always there."""
    columns = (Column("v", ColumnType(kind), **rules), Column("y", ColumnType.NUMBER))
    return Contract(columns, "y", constant_label=True)


def typed(values, kind: str, **rules) -> Judged:
    array = values if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(values)
    return validated(pa.table({"v": array, "y": np.arange(len(array), dtype=float)}), one(kind, **rules))


def column(verdict: Judged) -> list:
    """The typed column; categories as words, nulls as None."""
    assert verdict.accepted, verdict.reasons
    values, null = verdict.shard.columns["v"], verdict.shard.is_null("v")
    words = verdict.shard.vocabularies.get("v")
    return [
        None if n else words[v] if words is not None else v
        for v, n in zip(values.tolist(), null, strict=True)
    ]


def codes(reasons: tuple[Reason, ...]) -> list[str]:
    return [reason.code for reason in reasons]


# --- files


def as_parquet() -> bytes:
    at = pa.array([0, 12 * 3600 * 1000, 12 * 3600 * 1000 + 500], pa.timestamp("ms", "UTC"))
    midnight = pa.scalar(NOON // 1_000_000 - 12 * 3600 * 1000, pa.int64())
    at = pc.add(at.cast(pa.int64()), midnight).cast(pa.timestamp("ms", "UTC"))
    city = pa.array(["Ulm", None, "Bonn"]).dictionary_encode()
    table = {"id": ["a", "b", "c"], "at": at, "x": [1, -25, None], "city": city, "y": [True, False, False]}
    return parquet(pa.table(table))


@pytest.mark.parametrize(
    "data",
    [
        CSV,
        CSV.rstrip(b"\n"),
        CSV.replace(b"\n", b"\r\n"),
        b"\xef\xbb\xbf" + CSV,
        gzip.compress(CSV),
        gzip.compress(CSV[:40]) + gzip.compress(CSV[40:]),
        as_parquet(),
    ],
    ids=["csv", "no last newline", "crlf", "byte order mark", "csv.gz", "csv.gz in two members", "parquet"],
)
def test_the_same_rows_are_read_the_same_from_every_format(tmp_path, data):
    verdict = judged(tmp_path, data)
    assert (verdict.accepted, verdict.rows, verdict.bad_rows, verdict.reasons) == (True, 3, 0, ())
    shard = verdict.shard
    assert set(shard.columns) == {"at", "x", "city", "y"}, "text is not learned from"
    assert shard.columns["at"].tolist() == [NOON - 43200 * SECOND, NOON, NOON + SECOND // 2]
    np.testing.assert_array_equal(shard.columns["x"], [1, -25, np.nan])
    assert shard.columns["city"].tolist() == [1, -1, 0]
    assert shard.vocabularies["city"] == ["Bonn", "Ulm"]
    assert shard.columns["y"].tolist() == [1, 0, 0]
    assert verdict.profile.period == ("2024-03-31T00:00:00Z", "2024-03-31T12:00:00Z")


def test_the_order_of_columns_does_not_matter(tmp_path):
    assert judged(tmp_path, b"y,city,x,at,id\ntrue,Ulm,1,2024-03-31,a\n").accepted


def test_a_line_break_within_quotes_is_part_of_the_value_however_large_the_file(tmp_path):
    """Arrow reads blocks of a megabyte; cut at a line break within quotes, rows would fall apart."""
    n = 200_000
    data = b"v,y\n" + b'"a\nb,c",1\n' * n
    assert len(data) > 1 << 20
    verdict = judged(tmp_path, data, one("category"))
    assert verdict.rows == n
    assert verdict.shard.vocabularies["v"] == ["a\nb,c"]


@pytest.mark.parametrize("word", ["", "NA", "N/A", "NaN", "nan", "null", "NULL", "None"])
def test_the_words_for_nothing_are_nulls_in_csv(tmp_path, word):
    for kind in ("number", "category", "boolean", "timestamp"):
        verdict = judged(tmp_path, f"v,y\n{word},1\n".encode(), one(kind, nulls=1))
        assert column(verdict) == [None]


def test_a_quoted_word_for_nothing_is_a_word(tmp_path):
    assert column(judged(tmp_path, b'v,y\n"NA",1\n', one("category"))) == ["NA"]


def test_what_cannot_be_read_is_quarantined_with_the_code_of_its_refusal(tmp_path):
    """Which bytes are refused, and how, tests/unit/test_reading.py holds."""
    for data, code in (
        (b"", Code.EMPTY_FILE),
        (b"PAR1", Code.UNREADABLE),
        (b"v,y\n\xe9,1\n", Code.WRONG_ENCODING),
    ):
        verdict = judged(tmp_path, data, one("category"))
        assert (verdict.accepted, verdict.shard, codes(verdict.reasons)) == (False, None, [code])
    nested = parquet(pa.table({"v": [[1.0]], "y": [1.0]}))
    (reason,) = judged(tmp_path, nested, one("category")).reasons
    assert (reason.code, reason.column) == (Code.NESTED_COLUMN, "v")


KINDS = st.sampled_from(["number", "integer", "category", "boolean", "timestamp", "text"])
FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@FUZZ
@given(
    data=st.binary(max_size=200)
    | st.binary(max_size=100).map(gzip.compress)
    | st.binary(max_size=60).map(lambda tail: b"v,y\n" + tail)
    | st.binary(max_size=60).map(lambda tail: b"PAR1" + tail + b"PAR1")
    | st.text(alphabet='0123456789.,"\n-+eE:TZ nainf\ttrue', max_size=80).map(
        lambda tail: b"v,y\n" + tail.encode()
    ),
    kind=KINDS,
)
def test_any_bytes_get_a_verdict(tmp_path, data, kind):
    verdict = judged(tmp_path, data, replace(one(kind), keys=("v",)))
    assert verdict.accepted == (not verdict.reasons) == (verdict.shard is not None)


WHOLE = parquet(
    pa.table(
        {
            "v": pa.array(["a", None, "ü"] * 20).dictionary_encode(),
            "y": pa.array(np.arange(60.0)),
        }
    )
)


@FUZZ
@given(
    flips=st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), min_size=1, max_size=4),
    kind=KINDS,
)
def test_any_damage_to_a_parquet_file_gets_a_verdict(tmp_path, flips, kind):
    data = bytearray(WHOLE)
    for place, value in flips:
        data[place] = value
    verdict = judged(tmp_path, bytes(data), replace(one(kind, nulls=1), keys=("v",)))
    assert verdict.accepted == (not verdict.reasons) == (verdict.shard is not None)


# --- types


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        (pa.array([1, None, 3], pa.int8()), "number", [1.0, None, 3.0]),
        (pa.array([1.0, None, -0.0]), "integer", [1.0, None, 0.0]),
        (pa.array([1.5, float("nan")], pa.float32()), "number", [1.5, None]),
        (pa.array([1, 2], pa.float16()), "number", [1.0, 2.0]),
        (pa.array([decimal.Decimal("1.25"), None]), "number", [1.25, None]),
        (pa.array([decimal.Decimal("3.00")], pa.decimal256(40, 2)), "integer", [3.0]),
        (pa.array([2**53 - 1], pa.uint64()), "integer", [2.0**53 - 1]),
        (["1", " -2.5e1 ", "+.5", "7.", None], "number", [1.0, -25.0, 0.5, 7.0, None]),
        (["3", "3.0", "3e2"], "integer", [3.0, 3.0, 300.0]),
        ([True, None, False], "boolean", [1.0, None, 0.0]),
        ([0, 1, None], "boolean", [0.0, 1.0, None]),
        ([0.0, 1.0], "boolean", [0.0, 1.0]),
        (["TRUE", "no", "T", "f", " yes ", "1.0"], "boolean", [1.0, 0.0, 1.0, 0.0, 1.0, 1.0]),
        (["b", None, "a", ""], "category", ["b", None, "a", ""]),
        ([3, None, 12], "category", ["3", None, "12"]),
        ([True, False], "category", ["true", "false"]),
        ([b"b", None], "category", ["b", None]),
        (pa.array(["a", "b"], pa.large_string()), "category", ["a", "b"]),
        (pa.array(["a", "b"], pa.string_view()), "category", ["a", "b"]),
        (pa.array([b"a", None], pa.binary_view()), "category", ["a", None]),
        (pa.array(["a", None, "b"]).dictionary_encode(), "category", ["a", None, "b"]),
        (pa.array(["1", None, "2"]).dictionary_encode(), "number", [1.0, None, 2.0]),
        (pa.array([1.5, 1.5]).dictionary_encode(), "number", [1.5, 1.5]),
        (pa.nulls(2), "category", [None, None]),
        (pa.nulls(2), "number", [None, None]),
        (pa.nulls(2), "timestamp", [None, None]),
        (pa.ExtensionArray.from_storage(pa.bool8(), pa.array([0, 1], pa.int8())), "boolean", [0.0, 1.0]),
        (pa.ExtensionArray.from_storage(pa.json_(), pa.array(["7"])), "number", [7.0]),
    ],
)
def test_values_are_read_as_their_declared_type(values, kind, expected):
    assert column(typed(values, kind, nulls=1)) == expected


def test_dictionaries_that_differ_from_chunk_to_chunk_are_one_vocabulary():
    """pandas writes categoricals so, one dictionary a row group; keys may be such columns."""
    chunks = [pa.array(["b"]).dictionary_encode(), pa.array(["a"]).dictionary_encode()]
    table = pa.table({"v": pa.chunked_array(chunks), "y": [1.0, 2.0]})
    verdict = validated(table, replace(one("category"), keys=("v",)))
    assert column(verdict) == ["b", "a"]
    assert verdict.shard.vocabularies["v"] == ["a", "b"]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "+05:30", "America/New_York"])
def test_timestamps_of_every_unit_and_zone_become_nanoseconds_in_utc(unit, zone):
    """Arrow stores the instant in UTC; a zone is only how it would be shown."""
    ticks = NOON // {"s": SECOND, "ms": 10**6, "us": 10**3, "ns": 1}[unit]
    assert column(typed(pa.array([ticks, None], pa.timestamp(unit, zone)), "timestamp", nulls=1)) == [
        NOON,
        None,
    ]


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("1970-01-02", 86400 * SECOND),
        ("1970-01-01 00:01", 60 * SECOND),
        ("1970-01-01T00:00:01.000000001", SECOND + 1),
        (" 1970-01-01T00:00:01Z ", SECOND),
        ("1970-01-01 00:00:01+00:00", SECOND),
        ("1970-01-01T01:00:01+01:00", SECOND),
        ("1970-01-01 05:30:01+0530", SECOND),
        ("1969-12-31T14:30:01.5-09:30", SECOND + SECOND // 2),
        ("1970-01-01T14:00+14", 0),
        ("1970-01-01T00:00:01-00:00", SECOND),
        ("1969-12-31T23:59:59", -SECOND),
    ],
)
def test_timestamps_as_text_are_read_in_utc(text, nanoseconds):
    assert column(typed([text], "timestamp")) == [nanoseconds]


def test_zones_may_differ_within_a_column():
    texts = ["1970-01-01T01:00:00+01:00", "1970-01-01", "1969-12-31 19:00:00-0500", "1970-01-01T00:00:00Z"]
    assert column(typed(texts, "timestamp")) == [0, 0, 0, 0]


def test_dates_are_midnight():
    assert column(typed([dt.date(1970, 1, 2)], "timestamp")) == [86400 * SECOND]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["abc"], "number"),
        (["1,5"], "number"),
        (["0x1F"], "number"),
        (["1_000"], "number"),
        (["١"], "number"),
        ([True], "number"),
        ([dt.date(2024, 1, 1)], "number"),
        (pa.array([1], pa.duration("s")), "number"),
        ([2**53], "number"),
        ([2**53 + 1], "integer"),
        ([str(2**53 + 1)], "integer"),
        ([float(2**53)], "integer"),
        (pa.array([2**64 - 1], pa.uint64()), "integer"),
        ([1.5], "integer"),
        (["1.5"], "integer"),
        ([decimal.Decimal("1.5")], "integer"),
        ([2], "boolean"),
        ([0.5], "boolean"),
        (["maybe"], "boolean"),
        ([1.0], "category"),
        ([decimal.Decimal("1")], "category"),
        ([dt.date(2024, 1, 1)], "category"),
        ([b"\xff"], "category"),
        ([uuid.UUID(int=255).bytes], "category"),
        (pa.ExtensionArray.from_storage(pa.uuid(), pa.array([b"\xff" * 16], pa.binary(16))), "category"),
        ([20240331], "timestamp"),
        (["31.03.2024"], "timestamp"),
        (["2024-02-30"], "timestamp"),
        (["2024-03-31T12:00:00+24:00"], "timestamp"),
        (["2024-03-31T12:00:00+02:60"], "timestamp"),
        (["2024-03-31+02:00"], "timestamp"),
        (["1678-01-01T00:00:00+01:00"], "timestamp"),
        (["2261-12-31T23:30:00-01:00"], "timestamp"),
        (["9999-12-31"], "timestamp"),
        (pa.array([2**40], pa.timestamp("s")), "timestamp"),
        (pa.array([1], pa.time32("s")), "timestamp"),
    ],
)
def test_a_value_that_would_be_guessed_at_or_lose_digits_is_of_the_wrong_type(values, kind):
    verdict = typed(values, kind)
    assert codes(verdict.reasons) == [Code.WRONG_TYPE]
    assert (verdict.reasons[0].column, verdict.reasons[0].count) == ("v", 1)


def test_one_impossible_date_does_not_spoil_the_others():
    table = pa.table({"v": ["2024-03-31T12:00:00", "2024-02-30", None, "9999-01-01"], "y": np.arange(4.0)})
    contract = replace(one("timestamp", nulls=0.25), max_bad_rows=0.5)
    verdict = validated(table, contract)
    assert verdict.bad_rows == 2
    assert verdict.shard.columns["v"].tolist() == [NOON, NAT]


# --- rules


def test_layout_reasons_name_each_column_and_the_fix():
    table = pa.table([[1.0], [2.0], [3.0], [4.0]], names=["y", "y", "V", "zebra"])
    verdict = validated(table, one("number"))
    assert [(reason.code, reason.column) for reason in verdict.reasons] == [
        (Code.DUPLICATE_COLUMN, "y"),
        (Code.MISSING_COLUMN, "v"),
        (Code.UNEXPECTED_COLUMN, "V"),
        (Code.UNEXPECTED_COLUMN, "zebra"),
    ]
    assert verdict.reasons[0].count == 2


def test_a_column_that_is_nearly_named_right_is_recognized():
    table = pa.table({"customer_agee": [1.0], "y": [1.0]})
    contract = Contract((Column("customer_age", ColumnType.NUMBER), Column("y", ColumnType.NUMBER)), "y")
    message = validated(table, contract).reasons[0].message
    assert message == "Column 'customer_age' is missing; is 'customer_agee' meant? Rename it."


def test_a_very_long_column_name_is_shown_cut():
    table = pa.table({"w" * 5000: [1.0], "v": [1.0], "y": [1.0]})
    assert len(validated(table, one("number")).reasons[0].message) < 200


def test_with_a_column_missing_the_others_are_still_looked_at():
    verdict = validated(pa.table({"y": ["no number"]}), one("number"))
    assert codes(verdict.reasons) == [Code.MISSING_COLUMN, Code.WRONG_TYPE]


def test_a_wrong_layout_is_not_tolerated_however_many_bad_rows_are():
    contract = replace(one("number"), max_bad_rows=0.9)
    assert not validated(pa.table({"v": [1.0], "y": [1.0], "more": [1]}), contract).accepted


def test_a_header_without_rows_is_too_few_rows(tmp_path):
    for data in (
        b"v,y\n",
        parquet(pa.table({"v": pa.array([], pa.float64()), "y": pa.array([], pa.float64())})),
    ):
        verdict = judged(tmp_path, data, replace(one("number"), keys=("v",)))
        assert codes(verdict.reasons) == [Code.TOO_FEW_ROWS]


def test_fewer_rows_than_the_contract_asks_are_too_few():
    verdict = validated(pa.table({"v": [1.0, 2.0], "y": [1.0, 2.0]}), replace(one("number"), min_rows=3))
    assert (codes(verdict.reasons), verdict.reasons[0].count) == ([Code.TOO_FEW_ROWS], 2)
    assert "2 usable rows, at least 3" in verdict.reasons[0].message


def test_rows_that_are_left_out_do_not_count_as_rows():
    contract = replace(one("number"), min_rows=3, max_bad_rows=0.5)
    verdict = validated(pa.table({"v": ["1", "2", "x"], "y": np.arange(3.0)}), contract)
    assert codes(verdict.reasons) == [Code.WRONG_TYPE, Code.TOO_FEW_ROWS]


@pytest.mark.parametrize(("nulls", "fine"), [(57, True), (58, False)])
def test_nulls_are_tolerated_up_to_the_declared_share(nulls, fine):
    """57 of 100 is 0.57, though 0.57 * 100 is a hair less than 57 for a computer."""
    verdict = typed(pa.array([None] * nulls + [1.0] * (100 - nulls)), "number", nulls=0.57)
    assert verdict.accepted is fine
    if not fine:
        assert (codes(verdict.reasons), verdict.reasons[0].count) == ([Code.TOO_MANY_NULLS], 58)
        assert "58.0% of 'v' is empty, 57.0% is tolerated" in verdict.reasons[0].message


def test_not_a_number_is_a_null_in_columns_of_numbers():
    verdict = typed(pa.array([float("nan"), None, 1.0]), "number", nulls=0.5)
    assert [(r.code, r.count) for r in verdict.reasons] == [(Code.TOO_MANY_NULLS, 2)]


def test_too_many_nulls_are_not_excused_as_bad_rows():
    table = pa.table({"v": [None, 1.0], "y": [1.0, 2.0]})
    assert not validated(table, replace(one("number"), max_bad_rows=0.9)).accepted


def test_infinite_numbers_are_hard_even_where_ranges_are_soft():
    verdict = typed(["1", "inf", "-Infinity", "1e999"], "number", min=0, max=5)
    assert (codes(verdict.reasons), verdict.reasons[0].count) == ([Code.NOT_FINITE], 3)
    assert verdict.warnings == ()


@pytest.mark.parametrize(
    ("values", "kind", "rules", "code", "count"),
    [
        ([0.0, 5.0, 5.1, -0.1], "number", {"min": 0, "max": 5}, Code.OUT_OF_RANGE, 2),
        ([1, 7], "integer", {"max": 5}, Code.OUT_OF_RANGE, 1),
        (["a", "b", "c", "c"], "category", {"categories": ("a", "b")}, Code.UNKNOWN_CATEGORY, 2),
        (["a", "b", "c"], "category", {"max_categories": 2}, Code.TOO_MANY_CATEGORIES, 3),
    ],
)
def test_limits_are_soft_until_a_person_makes_them_hard(values, kind, rules, code, count):
    """Soft: accepted and told. Hard: quarantined."""
    soft, hard = typed(values, kind, **rules), typed(values, kind, **rules, hard=True)
    assert soft.accepted
    assert [(w.code, w.count) for w in soft.warnings] == [(code, count)]
    assert soft.rows == len(values)
    assert not hard.accepted
    assert [(r.code, r.count) for r in hard.reasons] == [(code, count)]


def test_values_on_the_limits_and_nulls_are_fine():
    assert typed([0.0, 5.0, None], "number", min=0, max=5, nulls=1, hard=True).reasons == ()
    assert (
        typed(["a", None], "category", categories=("a",), max_categories=1, nulls=1, hard=True).reasons == ()
    )


def test_a_key_that_comes_again_is_refused():
    contract = Contract((*CONTRACT.columns[:2], Column("y", ColumnType.NUMBER)), "y", keys=("id", "at"))
    at = pa.array([1, 1, 2, 1], pa.timestamp("s"))
    verdict = validated(pa.table({"id": ["a", "b", "a", "a"], "at": at, "y": np.arange(4.0)}), contract)
    assert [(r.code, r.column, r.count) for r in verdict.reasons] == [(Code.DUPLICATE_KEY, "id, at", 1)]


@pytest.mark.parametrize("name", ["", "_min", "k0", "row", "row_min", "a\0b", "naïve 🙂"])
def test_a_key_column_may_have_any_name(name):
    contract = Contract((Column(name, ColumnType.TEXT), Column("y", ColumnType.NUMBER)), "y", keys=(name,))
    assert validated(pa.table({name: ["a", "b"], "y": [1.0, 2.0]}), contract).accepted
    verdict = validated(pa.table({name: ["a", "a"], "y": [1.0, 2.0]}), contract)
    assert codes(verdict.reasons) == [Code.DUPLICATE_KEY]


def test_a_tolerated_share_of_bad_rows_is_left_out_and_told():
    """Row 2 has a wrong type, row 3 is out of range, row 5 repeats the key of row 1: 3 of 6 rows."""
    contract = Contract(
        (
            Column("id", ColumnType.TEXT),
            Column("v", ColumnType.NUMBER, max=9, hard=True),
            CONTRACT.columns[4],
        ),
        "y",
        keys=("id",),
        max_bad_rows=0.5,
    )
    rows = {"id": list("abcdae"), "v": ["1", "x", "10", "4", "5", "6"], "y": ["1", "0", "0", "0", "1", "1"]}
    verdict = validated(pa.table(rows), contract)
    assert (verdict.accepted, verdict.rows, verdict.bad_rows, verdict.reasons) == (True, 3, 3, ())
    assert verdict.shard.columns["v"].tolist() == [1, 4, 6]
    assert codes(verdict.warnings) == [
        Code.WRONG_TYPE,
        Code.OUT_OF_RANGE,
        Code.DUPLICATE_KEY,
        Code.BAD_ROWS_LEFT_OUT,
    ]
    assert verdict.profile.rows == 3
    assert verdict.profile.columns["v"].max == 6
    strict = validated(pa.table(rows), replace(contract, max_bad_rows=0.49))
    assert codes(strict.reasons) == [Code.WRONG_TYPE, Code.OUT_OF_RANGE, Code.DUPLICATE_KEY]
    assert (strict.shard, strict.rows, strict.bad_rows) == (None, 6, 3)
    assert strict.profile.rows == 4, "of the rows that break no rule of a row"


@pytest.mark.parametrize(("bad", "fine"), [(57, True), (58, False)])
def test_bad_rows_are_tolerated_up_to_the_declared_share(bad, fine):
    table = pa.table({"v": ["x"] * bad + ["1"] * (100 - bad), "y": np.arange(100.0)})
    assert validated(table, replace(one("number"), max_bad_rows=0.57)).accepted is fine


def test_a_file_without_any_label_is_accepted_and_told():
    table = pa.table({"v": [1.0, 2.0], "y": pa.array([None, None], pa.float64())})
    columns = (Column("v", ColumnType.NUMBER), Column("y", ColumnType.NUMBER, nulls=1))
    verdict = validated(table, Contract(columns, "y"))
    assert verdict.accepted
    assert [(w.code, w.column, w.count) for w in verdict.warnings] == [(Code.NO_LABELS, "y", 2)]


def test_all_reasons_are_found_not_only_the_first():
    columns = (
        Column("n", ColumnType.NUMBER),
        Column("b", ColumnType.BOOLEAN),
        Column("c", ColumnType.CATEGORY, categories=("a",), hard=True),
        Column("y", ColumnType.NUMBER),
    )
    table = pa.table({"n": [None, "x"], "b": ["maybe", "1"], "c": ["a", "z"], "y": [np.inf, 1.0]})
    verdict = validated(table, Contract(columns, "y", keys=("y",)))
    assert [(r.code, r.column) for r in verdict.reasons] == [
        (Code.WRONG_TYPE, "n"),
        (Code.TOO_MANY_NULLS, "n"),
        (Code.WRONG_TYPE, "b"),
        (Code.UNKNOWN_CATEGORY, "c"),
        (Code.NOT_FINITE, "y"),
    ]


@pytest.mark.parametrize("extra", [100, 101])
def test_the_rows_of_a_table_with_far_more_columns_are_not_read(tmp_path, extra):
    """It is another table: its columns are named, and decoding two thousand of them would take a gigabyte."""
    data = {"v": ["x"], "y": [1.0], **{f"c{i}": [1] for i in range(extra)}}
    verdict = judged(tmp_path, parquet(pa.table(data)), one("number"))
    assert codes(verdict.reasons).count(Code.UNEXPECTED_COLUMN) == extra
    assert (Code.WRONG_TYPE in codes(verdict.reasons)) == (extra == 100)
    assert (verdict.accepted, verdict.rows) == (False, 1)
