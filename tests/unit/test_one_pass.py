"""The pass over an upload: what does not depend on how it was cut, what is converted, what is left out and listed."""

import csv
import datetime as dt
import decimal
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from refit import repeats
from refit.batches import Code
from refit.columns import typed
from refit.contract import Column, ColumnType, Contract
from refit.profile import to_json
from refit.reading import Limits
from refit.shard import load
from refit.validation import validate_file
from refit.vocabulary import Vocabulary

NUMBER, CATEGORY, TEXT = ColumnType.NUMBER, ColumnType.CATEGORY, ColumnType.TEXT
BY_KEY = Contract((Column("id", TEXT), Column("v", NUMBER, nulls=1)), "v", keys=("id",), max_bad_rows=0.5)


def file(path: Path, columns, **options) -> Path:
    pq.write_table(pa.table(columns), path, **options)
    return path


def codes(reasons):
    return [(reason.code, reason.column, reason.count) for reason in reasons]


def one(kind: str, **rules) -> Contract:
    return Contract((Column("v", ColumnType(kind), nulls=1, **rules),), "v", constant_label=True)


# ---------------------------------------------------------------- parts, threads, memory


def many(n=3000):
    rng = np.random.default_rng(1)
    words = np.array([f"w{i}" for i in range(300)])
    return {
        "x": pa.array(rng.normal(0, 1, n), mask=rng.random(n) < 0.1),
        "i": pa.array(rng.integers(-5, 5, n)),
        "c": pa.array(words[rng.integers(0, 300, n)].tolist()),
        "at": pa.array(rng.integers(0, 10**15, n), pa.timestamp("us", "UTC")),
        "b": pa.array(rng.random(n) < 0.3),
    }


MANY = Contract(
    (
        Column("x", NUMBER, nulls=0.5, max=2.5, hard=True),
        Column("i", ColumnType.INTEGER),
        Column("c", CATEGORY, nulls=0.5),
        Column("at", ColumnType.TIMESTAMP),
        Column("b", ColumnType.BOOLEAN),
    ),
    "b",
    "at",
    max_bad_rows=0.1,
)


def without_moments(profile):
    document = to_json(profile)
    for column in document["columns"].values():
        column.pop("mean", None)
        column.pop("m2", None)
    return document


@pytest.mark.parametrize("rows", [100, 999, 3000])
def test_how_a_file_is_cut_into_row_groups_changes_nothing(tmp_path, rows):
    """The same profile (moments up to rounding), the same rows out of the shard."""
    a = file(tmp_path / "a", many())
    b = file(tmp_path / "b", many(), row_group_size=rows)
    first = validate_file(a, MANY, shard=tmp_path / "s1")
    second = validate_file(b, MANY, shard=tmp_path / "s2")
    assert first.bad_rows > 0
    assert without_moments(second.profile) == without_moments(first.profile)
    x, z = first.profile.columns["x"], second.profile.columns["x"]
    assert (z.mean, z.m2) == (pytest.approx(x.mean, rel=1e-9), pytest.approx(x.m2, rel=1e-9))
    one, two = (load((tmp_path / name).read_bytes()) for name in ("s1", "s2"))
    assert one.rows == two.rows == first.rows
    for name in one.columns:
        assert one.columns[name].tobytes() == two.columns[name].tobytes()
    assert one.vocabularies == two.vocabularies


SOFT = replace(MANY, columns=(Column("x", NUMBER, nulls=0.5, max=2.5), *MANY.columns[1:]))


@pytest.mark.parametrize("words", [200, 400])
@pytest.mark.parametrize("contract", [MANY, SOFT], ids=["bad rows", "none"])
def test_the_same_file_gives_the_same_bytes_however_far_ahead_it_was_read(
    tmp_path, monkeypatch, contract, words
):
    """Nor does it matter which thread looked at what, or whether the words of two columns are too many to be held."""
    monkeypatch.setattr("refit.rows.FEW_ROWS", 0)
    monkeypatch.setattr("refit.parquet_reading.PART_ROWS", 100)
    monkeypatch.setattr("refit.vocabulary.MAX_WORDS", words)
    columns = many()
    path = file(tmp_path / "a", {**columns, "d": columns["c"]}, row_group_size=100)
    contract = replace(contract, columns=(*contract.columns, Column("d", CATEGORY, nulls=0.5)))
    found = set()
    for _ in range(5):
        verdict = validate_file(path, contract, shard=tmp_path / "s")
        found.add((json.dumps(to_json(verdict.profile)), (tmp_path / "s").read_bytes()))
    assert len(found) == 1


ORDERS = {
    "every row is good": SOFT,
    "some rows are bad": MANY,
    "rows come again": replace(SOFT, keys=("c", "i", "at"), max_bad_rows=0.5),
    "there are many words": SOFT,
    "a column is missing": replace(SOFT, columns=(*SOFT.columns, Column("more", NUMBER))),
}


@pytest.mark.parametrize("case", ORDERS)
def test_columns_looked_at_apart_tell_what_they_tell_together(tmp_path, monkeypatch, case):
    """Verdict, profile (moments up to rounding), list and shard."""
    contract = ORDERS[case]
    if case == "there are many words":
        monkeypatch.setattr("refit.vocabulary.MAX_WORDS", 250)
    monkeypatch.setattr("refit.parquet_reading.COLUMN_ROWS", 100)
    monkeypatch.setattr("refit.parquet_reading.PART_ROWS", 700)
    table = pa.table(many())
    table = pa.concat_tables([table, table.slice(0, 10)])
    path, found = file(tmp_path / "a", table, row_group_size=300), []
    for few in (0, 10**9):
        monkeypatch.setattr("refit.rows.FEW_ROWS", few)
        shard, bad = tmp_path / f"{few}.shard", tmp_path / f"{few}.csv"
        verdict = validate_file(path, contract, shard=shard, bad_rows=bad)
        stored = load(shard.read_bytes()) if verdict.accepted else None
        bytes_of = stored and {name: values.tobytes() for name, values in stored.columns.items()}
        words = stored and stored.vocabularies
        listed = bad.read_text() if bad.exists() else ""
        found.append(
            (replace(verdict, profile=None), without_moments(verdict.profile), bytes_of, words, listed)
        )
    assert found[0] == found[1]
    assert found[0][0].accepted == (len(contract.columns) == 5)


@pytest.mark.parametrize(
    "names",
    [("a", "a.b"), ("a.b", "a"), ("a.b", "a.c"), ("", "."), ("a.", "a"), ("a..b", "é.\n"), ("x", "X")],
)
def test_columns_of_odd_names_are_told_apart(tmp_path, monkeypatch, names):
    monkeypatch.setattr("refit.rows.FEW_ROWS", 0)
    path = file(tmp_path / "a", {names[0]: [1.0, 2.0], names[1]: [3.0, 5.0]})
    contract = Contract(tuple(Column(name, NUMBER) for name in names), names[0])
    verdict = validate_file(path, contract)
    assert {name: each.mean for name, each in verdict.profile.columns.items()} == {names[0]: 1.5, names[1]: 4}


def test_of_several_faults_always_the_first_in_the_file_is_told(tmp_path, monkeypatch):
    """Whichever thread comes first, and in whatever order the contract names the columns."""
    monkeypatch.setattr("refit.rows.FEW_ROWS", 0)
    monkeypatch.setattr("refit.parquet_reading.PART_ROWS", 100)
    names = [f"c{i}" for i in range(8)]
    path = file(tmp_path / "a", {name: ["a"] * 999 + ["b" * 2000] for name in names}, row_group_size=100)
    columns = tuple(Column(name, CATEGORY) for name in reversed(names))
    contract = Contract(columns, "c0", constant_label=True)
    limits = Limits(10**6, 10**9, max_cell_bytes=1000)
    told = {codes(validate_file(path, contract, limits=limits).reasons)[0] for _ in range(5)}
    assert told == {(Code.CELL_TOO_LARGE, "c0", None)}


def test_several_files_are_one_batch(tmp_path):
    whole = pa.table(many())
    paths = [
        file(tmp_path / f"{start}", whole.slice(start, 1000), row_group_size=300) for start in (0, 1000, 2000)
    ]
    verdict = validate_file(paths, MANY, shard=tmp_path / "s")
    single = validate_file(file(tmp_path / "a", whole), MANY, shard=tmp_path / "s1")
    assert (verdict.rows, verdict.bad_rows) == (single.rows, single.bad_rows)
    assert without_moments(verdict.profile) == without_moments(single.profile)
    a, b = (load((tmp_path / name).read_bytes()) for name in ("s", "s1"))
    assert a.columns["x"].tobytes() == b.columns["x"].tobytes()


def test_several_csv_files_are_one_batch(tmp_path):
    for i in range(3):
        (tmp_path / str(i)).write_text(f"id,v\na{i},{i}\nb{i},{i}.5\n")
    paths = [tmp_path / str(i) for i in range(3)]
    verdict = validate_file(paths, BY_KEY, shard=tmp_path / "s")
    assert verdict.rows == 6
    assert load((tmp_path / "s").read_bytes()).columns["v"].tolist() == [0, 0.5, 1, 1.5, 2, 2.5]
    doubled = validate_file([paths[0], paths[1], paths[0]], BY_KEY)
    assert codes(doubled.warnings)[0] == (Code.DUPLICATE_KEY, "id", 2)
    few = validate_file(paths, replace(BY_KEY, max_rows=5))
    assert codes(few.reasons)[0][0] == Code.TOO_MANY_ROWS


@pytest.mark.parametrize("dictionary", [True, False])
def test_a_row_group_may_have_more_words_than_are_held(tmp_path, monkeypatch, dictionary):
    """Several vocabularies to one chunk of the shard; the same words come in each."""
    monkeypatch.setattr("refit.vocabulary.MAX_WORDS", 50)
    monkeypatch.setattr("refit.parquet_reading.BATCH_ROWS", 100)
    words = [f"w{i % 330}" for i in range(1000)] + [None]
    contract = Contract((Column("v", CATEGORY, nulls=1, max_categories=1000),), "v")
    verdict = validate_file(
        file(tmp_path / "a", {"v": words}, use_dictionary=dictionary), contract, shard=tmp_path / "s"
    )
    assert verdict.profile.columns["v"].counts["w0"] == 4
    shard = load((tmp_path / "s").read_bytes())
    codes = shard.columns["v"].tolist()
    assert [shard.vocabularies["v"][code] if code >= 0 else None for code in codes] == words


def test_rows_that_come_again_are_in_no_column_of_the_profile(tmp_path):
    """Nor are they nulls of it."""
    columns = {"id": ["a", "b", "a", "a"], "v": [1.0, None, 1.0, 1.0], "c": ["x", "y", "x", "x"]}
    contract = replace(BY_KEY, columns=(*BY_KEY.columns, Column("c", CATEGORY)))
    verdict = validate_file(file(tmp_path / "a", columns), contract)
    assert verdict.profile.rows == verdict.rows == 2
    told = {name: (each.rows, each.nulls) for name, each in verdict.profile.columns.items()}
    assert told == {"v": (2, 1), "c": (2, 0)}


def test_validating_does_not_import_pandas(tmp_path):
    """Arrow imports it for many of its conversions where it is installed: a second of a cold start."""
    table = {
        **many(200),
        "n": pa.array([str(i) for i in range(200)]),
        "t": pa.array(["2024-01-01"] * 199 + ["no date"]),
        "d": pa.array([decimal.Decimal("1.5")] * 200),
        "y": pa.array([f"k{i % 199}" for i in range(200)]),
    }
    file(tmp_path / "a", table)
    (tmp_path / "c").write_text("v\n" + "".join(f"w{i % 1999}\n" for i in range(400_000)))
    (tmp_path / "b").write_text("x\n1\nno\n" + "2\n" * 50)
    script = f"""
import sys
from pathlib import Path
from refit.contract import *
from refit.validation import validate_file
T = ColumnType
kinds = dict(x=T.NUMBER, i=T.CATEGORY, c=T.CATEGORY, at=T.TIMESTAMP, b=T.BOOLEAN, n=T.NUMBER, t=T.TIMESTAMP, d=T.NUMBER, y=T.TEXT)
columns = tuple(Column(name, kind, nulls=1, categories=("w1",) if name == "c" else ()) for name, kind in kinds.items())
contract = Contract(columns, "b", "at", ("y", "n", "c"), max_bad_rows=0.5)
folder = Path({str(tmp_path)!r})
verdict = validate_file(folder / "a", contract, shard=folder / "s", bad_rows=folder / "r", now="2024-01-01T00:00:00Z")
assert verdict.accepted and verdict.bad_rows == 1, verdict
verdict = validate_file(folder / "b", Contract((Column("x", T.NUMBER),), "x", max_bad_rows=0.5), bad_rows=folder / "r")
assert verdict.bad_rows == 1, verdict
verdict = validate_file(folder / "c", Contract((Column("v", T.CATEGORY, nulls=1),), "v"), shard=folder / "s")
assert verdict.accepted and verdict.rows == 400_000, verdict
print("pandas" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "False", done.stdout + done.stderr


# ---------------------------------------------------------------- conversions


@pytest.mark.parametrize(
    ("values", "kind", "source", "count"),
    [
        (pa.array([1, None, 3]), "number", "int64", 2),
        (pa.array([1.0, 2.0]), "integer", "double", 2),
        (pa.array(["1", "2"]), "number", "text", 2),
        (pa.array([decimal.Decimal("1.5")]), "number", "decimal128(2, 1)", 1),
        (pa.array([1, 0]), "boolean", "int64", 2),
        (pa.array(["yes", "no", None]), "boolean", "text", 2),
        (pa.array([7, 8]), "category", "int64", 2),
        (
            pa.array([0], pa.timestamp("ms", "Europe/Berlin")),
            "timestamp",
            "timestamp[ms, tz=Europe/Berlin]",
            1,
        ),
        (pa.array([0], pa.timestamp("ns")), "timestamp", "without zone, read as UTC", 1),
        (pa.array(["2024-01-01"]), "timestamp", "text", 1),
        (pa.array([dt.date(2024, 1, 1)]), "timestamp", "date, read as midnight in UTC", 1),
    ],
)
def test_conversions_that_lose_nothing_are_made_and_recorded(tmp_path, values, kind, source, count):
    verdict = validate_file(file(tmp_path / "a", {"v": values}), one(kind))
    assert verdict.accepted, verdict.reasons
    assert codes(verdict.coercions) == [(Code.COERCED, "v", count)]
    assert source in verdict.coercions[0].message


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (pa.array([1.5, None]), "number"),
        (pa.array([1]), "integer"),
        (pa.array([True]), "boolean"),
        (pa.array(["a"]), "category"),
        (pa.array([0], pa.timestamp("ns", "UTC")), "timestamp"),
        (pa.array([5]), "text"),
    ],
)
def test_what_has_its_type_already_is_not_called_converted(tmp_path, values, kind):
    assert validate_file(file(tmp_path / "a", {"v": values}), one(kind)).coercions == ()


def test_values_of_a_csv_are_text_that_is_read(tmp_path):
    (tmp_path / "a").write_text("v\n1\n\n2\n")
    assert codes(validate_file(tmp_path / "a", one("integer")).coercions) == [(Code.COERCED, "v", 2)]


@pytest.mark.parametrize(
    ("values", "kind", "wrong"),
    [
        (pa.array([2**53 - 1, 2**53, -(2**53)]), "number", 2),
        (pa.array([decimal.Decimal("0.1"), decimal.Decimal("0.12345678901234567891")]), "number", 1),
        (pa.array([decimal.Decimal(2**53 + 1), decimal.Decimal(3)]), "number", 1),
        (pa.array([1.0, 1.5]), "integer", 1),
        (pa.array([0, 1, 2]), "boolean", 1),
        (pa.array([0, 10**11, -(10**11)], pa.timestamp("s")), "timestamp", 2),
        (
            pa.array(["1677-12-31", "1678-01-01", "2261-12-31T23:59:59.999999999", "2262-01-01"]),
            "timestamp",
            2,
        ),
        (
            pa.array(["2024-02-29", "2023-02-29", "2024-13-01", "2024-01-01T24:00", "2024-01-01T00:60"]),
            "timestamp",
            4,
        ),
    ],
)
def test_a_conversion_that_would_lose_something_makes_the_value_wrong(tmp_path, values, kind, wrong):
    verdict = validate_file(file(tmp_path / "a", {"v": values}), one(kind))
    assert codes(verdict.reasons) == [(Code.WRONG_TYPE, "v", wrong)]
    assert verdict.rows - verdict.bad_rows == verdict.profile.rows == len(values) - wrong


TEXTS = st.sampled_from(
    [
        "2024-01-01",
        "2024-01-01T12",
        "2024-01-01 12:30",
        "2024-01-01T12:30:05.5",
        "2024-02-30",
        "20240101",
        "x",
        None,
        "2024-01-01T1200",
        "2024-01-01T12:30Z",
        "2024-01-01T12:30:05.25Z",
        "2024-01-01Z",
        "2024-01-01T12Z",
        "2024-01-01T12:30+01:00",
        "2024-01-01T12:30+00:00",
        "2024-01-01T1230Z",
        " 2024-01-01",
        "2024-01-01T12:30:05.",
        "2024-01-01T12:30:60",
    ]
)


@settings(max_examples=60, deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=4))
def test_a_time_is_read_the_same_whatever_stands_beside_it(texts):
    """Columns of plain dates are read by Arrow's own parser, others by pattern; both say the same."""
    together = typed(pa.array(texts, pa.string()), ColumnType.TIMESTAMP)
    for i, text in enumerate(texts):
        alone = typed(pa.array([text], pa.string()), ColumnType.TIMESTAMP)
        assert (together.wrong is not None and together.wrong[i]) == (
            alone.wrong is not None and alone.wrong[0]
        )
        if alone.wrong is None and alone.null is None:
            assert together.values[i] == alone.values[0]


# ---------------------------------------------------------------- keys


def test_a_repeated_row_is_in_neither_profile_nor_shard(tmp_path):
    path = file(tmp_path / "a", {"id": list("abcab"), "v": [1.0, 2.0, 3.0, 100.0, 2.0]})
    verdict = validate_file(path, BY_KEY, shard=tmp_path / "s", bad_rows=tmp_path / "bad")
    assert (verdict.accepted, verdict.rows, verdict.bad_rows) == (True, 3, 2)
    assert verdict.profile.columns["v"].max == 3
    assert verdict.profile.rows == 3
    assert load((tmp_path / "s").read_bytes()).columns["v"].tolist() == [1, 2, 3]
    assert [row[:3] for row in csv.reader((tmp_path / "bad").open())][1:] == [
        ["4", "duplicate_key", "id"],
        ["5", "duplicate_key", "id"],
    ]


def test_rows_whose_hashes_collide_are_not_called_repeated(tmp_path, monkeypatch):
    """A hash is only where to look: the keys themselves decide."""
    monkeypatch.setattr("refit.inspection.mix", lambda values: values & np.uint64(0))
    path = file(tmp_path / "a", {"id": list("abcb"), "v": [1.0, 2.0, 3.0, 4.0]})
    assert codes(validate_file(path, BY_KEY).warnings)[0] == (Code.DUPLICATE_KEY, "id", 1)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    keys=st.lists(
        st.tuples(st.sampled_from(["a", "b", None, ""]), st.integers(0, 3) | st.none()),
        min_size=1,
        max_size=30,
    ),
    group=st.integers(1, 10),
    groups=st.integers(1, 3),
    spill=st.booleans(),
)
def test_repeated_keys_are_found_as_a_set_would_find_them(tmp_path, monkeypatch, keys, group, groups, spill):
    monkeypatch.setattr(repeats, "IN_MEMORY", 0 if spill else 1000)
    monkeypatch.setattr("refit.keys.GROUPS", groups)
    words, numbers = zip(*keys, strict=True)
    columns = {"id": pa.array(words, pa.string()), "n": pa.array(numbers, pa.int64())}
    contract = Contract(
        (Column("id", TEXT, nulls=1), Column("n", NUMBER, nulls=1)),
        "n",
        keys=("id", "n"),
        constant_label=True,
    )
    verdict = validate_file(file(tmp_path / "a", columns, row_group_size=group), contract, folder=tmp_path)
    expected = len(keys) - len(set(keys))
    assert sum(reason.count for reason in verdict.reasons if reason.code == Code.DUPLICATE_KEY) == expected


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("collide", [False, True])
def test_batches_with_dictionaries_of_their_own_share_a_vocabulary(monkeypatch, collide, plain):
    """As the blocks of a CSV have them, and rows of plain text; words are one where they are equal, not where their hashes are."""
    if collide:
        monkeypatch.setattr(
            "refit.vocabulary.hash_words", lambda body, places: np.zeros(len(places) - 1, np.uint64)
        )
    vocabulary = Vocabulary(Column("v", CATEGORY))
    found = []
    for words in (["a", "b", None], ["b", "c"], ["c", "a", "d"], ["e"]):
        array = pa.array(words, pa.string())
        codes = vocabulary.codes(typed(array if plain else array.dictionary_encode(), CATEGORY)).tolist()
        found.append([None if code < 0 else vocabulary.words[code].as_py() for code in codes])
    assert found == [["a", "b", None], ["b", "c"], ["c", "a", "d"], ["e"]]
    assert vocabulary.words.to_pylist() == ["a", "b", "c", "d", "e"]


# ---------------------------------------------------------------- the list of bad rows


def test_bad_rows_are_listed_as_they_stand_in_the_file(tmp_path):
    """Rows are counted from 1; the header is none."""
    (tmp_path / "a").write_text("v,id\n1,a\n007x,b\n1e999,c\n4,d\n")
    verdict = validate_file(tmp_path / "a", BY_KEY, bad_rows=tmp_path / "bad")
    assert (verdict.accepted, verdict.rows, verdict.bad_rows, verdict.listed) == (True, 2, 2, 2)
    assert list(csv.reader((tmp_path / "bad").open())) == [
        ["row", "codes", "columns", "v", "id"],
        ["2", "wrong_type", "v", "007x", "b"],
        ["3", "not_finite", "v", "1e999", "c"],
    ]


def test_a_row_with_several_faults_is_listed_once(tmp_path):
    contract = Contract((Column("a", NUMBER), Column("b", NUMBER, max=1, hard=True)), "a")
    path = file(tmp_path / "a", {"a": ["x", "1"], "b": [9.0, 0.0]})
    verdict = validate_file(path, contract, bad_rows=tmp_path / "bad")
    assert not verdict.accepted
    assert list(csv.reader((tmp_path / "bad").open()))[1:] == [
        ["1", "wrong_type; out_of_range", "a; b", "x", "9"]
    ]


def test_the_list_of_bad_rows_ends(tmp_path, monkeypatch):
    monkeypatch.setattr("refit.inspection.LISTED", 7)
    monkeypatch.setattr("refit.validation.LISTED", 7)
    path = file(tmp_path / "a", {"id": [str(i) for i in range(100)], "v": ["x"] * 100}, row_group_size=5)
    verdict = validate_file(path, BY_KEY, bad_rows=tmp_path / "bad")
    assert (verdict.bad_rows, verdict.listed) == (100, 7)
    assert [row[0] for row in csv.reader((tmp_path / "bad").open())] == ["row", *"1234567"]


def test_without_bad_rows_there_is_no_list(tmp_path):
    path = file(tmp_path / "a", {"id": ["a"], "v": [1.0]})
    assert validate_file(path, BY_KEY, bad_rows=tmp_path / "bad").listed == 0
    assert not (tmp_path / "bad").exists()


# ---------------------------------------------------------------- rules of the whole file


def times(tmp_path, *days, **rules):
    at = pa.array([dt.datetime(2024, 1, day, tzinfo=dt.UTC) for day in days])
    columns = (Column("at", ColumnType.TIMESTAMP), Column("y", NUMBER))
    contract = Contract(columns, "y", "at", **rules)
    path = file(tmp_path / "a", {"at": at, "y": np.arange(float(len(days)))})
    return validate_file(path, contract, now="2024-01-10T00:00:00Z")


def test_old_data_is_told_and_refused_where_a_person_said_so(tmp_path):
    assert times(tmp_path, 1, 5, fresh_seconds=5 * 86400).warnings == ()
    assert codes(times(tmp_path, 1, 5, fresh_seconds=5 * 86400 - 1).warnings) == [
        (Code.NOT_FRESH, "at", None)
    ]
    assert codes(times(tmp_path, 1, fresh_seconds=1, hard=("fresh",)).reasons) == [
        (Code.NOT_FRESH, "at", None)
    ]
    assert times(tmp_path, 1).warnings == ()


def test_how_old_it_may_be_is_told_as_a_person_says_it(tmp_path):
    (told,) = times(tmp_path, 1, fresh_seconds=5 * 86400).warnings
    assert (
        "2024-01-01T00:00:00Z, more than 5 days before the file arrived; is it an old export?" in told.message
    )


def test_words_that_are_no_times_are_told_with_how_to_write_times(tmp_path):
    contract = Contract((Column("at", ColumnType.TIMESTAMP), Column("y", NUMBER)), "y", "at")
    path = file(tmp_path / "a", {"at": ["31.01.2024"], "y": [1.0]})
    (told,) = validate_file(path, contract).reasons
    assert told.message.endswith("cannot be read as timestamp; write as 2026-01-31 12:00:00, or leave empty.")


def test_times_more_than_a_day_ahead_are_not_fresh_either(tmp_path):
    assert times(tmp_path, 11, fresh_seconds=99).warnings == ()
    assert "more than a day after" in times(tmp_path, 12, fresh_seconds=99).warnings[0].message


@pytest.mark.parametrize(
    ("labels", "kind", "refused"),
    [
        ([1.0] * 50 + [None], "number", True),
        ([1.0] * 49, "number", False),
        ([1.0] * 50 + [2.0], "number", False),
        ([True] * 50, "boolean", True),
        (["a"] * 50, "category", True),
        (["a"] * 50 + ["b"], "category", False),
        ([3] * 50, "integer", True),
    ],
)
def test_labels_that_are_all_the_same_are_refused(tmp_path, labels, kind, refused):
    path = file(tmp_path / "a", {"v": pa.array(labels)})
    contract = replace(one(kind), constant_label=False)
    verdict = validate_file(path, contract)
    assert [reason.code for reason in verdict.reasons] == ([Code.CONSTANT_LABEL] if refused else [])
    assert validate_file(path, one(kind)).accepted


@pytest.mark.parametrize(
    ("labels", "column", "rare"),
    [
        ([True] * 9 + [False], Column("v", ColumnType.BOOLEAN), 1),
        ([True] * 8 + [False] * 2, Column("v", ColumnType.BOOLEAN), None),
        ([5] * 9 + [9], Column("v", ColumnType.INTEGER), 1),
        ([1, 2, 3, 3, 3, 3, 3, 3, 3, 3], Column("v", ColumnType.INTEGER), None),
        (["a"] * 5 + ["b"] * 5, Column("v", CATEGORY), None),
        (["a"] * 5 + ["b"] * 5, Column("v", CATEGORY, categories=("a", "b", "c")), 0),
        ([0.5] * 9 + [1.5], Column("v", NUMBER), None),
    ],
)
def test_a_class_with_too_few_labels_is_told(tmp_path, labels, column, rare):
    contract = Contract((column,), "v", min_class_share=0.15)
    path = file(tmp_path / "a", {"v": labels})
    verdict = validate_file(path, contract)
    assert verdict.accepted
    assert codes(verdict.warnings) == ([] if rare is None else [(Code.RARE_LABEL, "v", rare)])
    hard = validate_file(path, replace(contract, hard=("min_class_share",)))
    assert hard.accepted is (rare is None)


def test_of_a_quarantined_file_the_profile_shows_what_was_there(tmp_path):
    path = file(tmp_path / "a", {"v": [1.0, 2.0], "more": [1, 2]})
    verdict = validate_file(path, one("number"))
    assert not verdict.accepted
    assert verdict.profile.columns["v"].mean == 1.5


def test_a_shard_that_could_not_be_stored_is_refused_before_it_fills_the_disk(tmp_path, monkeypatch):
    monkeypatch.setattr("refit.shard.MOST_BYTES", 7999)
    path = file(tmp_path / "a", {"v": np.arange(1000.0)})
    verdict = validate_file(path, one("number"), shard=tmp_path / "s")
    assert codes(verdict.reasons)[0][0] == Code.UNPACKS_TOO_LARGE
    assert not (tmp_path / "s").exists()
    assert validate_file(path, one("number")).accepted


def test_a_limit_of_rows_is_never_more_than_the_contracts(tmp_path):
    path = file(tmp_path / "a", {"v": np.arange(10.0)})
    assert not validate_file(path, replace(one("number"), max_rows=9), limits=Limits(10**6, 10**6)).accepted


def test_many_words_are_counted_within_bounds(tmp_path, monkeypatch):
    """Beyond the bound rows are counted by hash: buckets and the number of words stay right."""
    from refit import tally

    monkeypatch.setattr(tally, "MAX_WORDS", 50)
    monkeypatch.setattr("refit.vocabulary.MAX_WORDS", 50)
    words = ["often"] * 500 + [f"w{i}" for i in range(5000)]
    contract = Contract((Column("v", CATEGORY, max_categories=100),), "v")
    (tmp_path / "a").write_text("v\n" + "\n".join(words) + "\n")
    verdict = validate_file(tmp_path / "a", contract, shard=tmp_path / "s")
    found = verdict.profile.columns["v"]
    assert (found.counts["often"], len(found.counts)) == (500, 50)
    assert found.other == 5500 - 500 - 49
    assert found.buckets.sum() == 5500
    assert found.distinct.estimate() == pytest.approx(5001, rel=0.2)
    assert verdict.warnings[0].code == Code.TOO_MANY_CATEGORIES
    shard = load((tmp_path / "s").read_bytes())
    assert [shard.vocabularies["v"][code] for code in shard.columns["v"]] == words


@pytest.mark.parametrize("dictionary", [True, False])
def test_words_that_are_put_away_in_the_middle_of_a_part_stay_those_of_their_rows(
    tmp_path, monkeypatch, dictionary
):
    """A part of a Parquet file is one chunk of the shard, however often its words become too many for the memory."""
    from refit import parquet_reading

    monkeypatch.setattr("refit.vocabulary.MAX_WORDS", 50)
    monkeypatch.setattr(parquet_reading, "BATCH_ROWS", 100)
    words = [None if i % 7 == 0 else f"w{i % 900}" for i in range(2000)]
    pq.write_table(pa.table({"v": words}), tmp_path / "a", use_dictionary=dictionary, row_group_size=1000)
    contract = Contract((Column("v", CATEGORY, nulls=1.0, max_categories=2000),), "v")
    assert validate_file(tmp_path / "a", contract, shard=tmp_path / "s").accepted
    shard = load((tmp_path / "s").read_bytes())
    codes = shard.columns["v"].tolist()
    assert [None if code < 0 else shard.vocabularies["v"][code] for code in codes] == words
