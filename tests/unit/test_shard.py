"""Shards: the bytes that validation writes and training reads."""

import io
import json
import tempfile
import zlib
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refit.contract import Column, ColumnType
from refit.errors import ArtifactError
from refit.shard import NAT, Shard, Writer, concatenate, kind_of, load, packed, packed_values, to_frame

NUMBER, CATEGORY, TIMESTAMP = ColumnType.NUMBER, ColumnType.CATEGORY, ColumnType.TIMESTAMP


def shard(**columns) -> Shard:
    """Lists of numbers are numbers, of words (or None) a category, of ints named `at` timestamps."""
    values, types, words = {}, {}, {}
    for name, given_values in columns.items():
        if name == "at":
            values[name], types[name] = np.array(given_values, np.int64), TIMESTAMP
        elif any(isinstance(value, str) for value in given_values):
            words[name] = sorted({word for word in given_values if word is not None})
            codes = [-1 if word is None else words[name].index(word) for word in given_values]
            values[name], types[name] = np.array(codes, np.int32), CATEGORY
        else:
            values[name], types[name] = np.array(given_values, float), NUMBER
    return Shard(values, types, words)


def dump(whole: Shard, cuts=(), left_out=()) -> bytes:
    """Written in chunks that end at `cuts`, each with more words."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "shard"
        writer = Writer(path, list(whole.types.items()))
        before = dict.fromkeys(whole.vocabularies, 0)
        for start, end in pairwise([0, *cuts, whole.rows]):
            chunk = writer.open_chunk(end - start)
            for name, kind in whole.types.items():
                values = whole.columns[name][start:end]
                if kind is CATEGORY:
                    used = (
                        np.unique(values[values >= 0]) if cuts else np.arange(len(whole.vocabularies[name]))
                    )
                    words = [whole.vocabularies[name][code] for code in used]
                    values = np.where(values < 0, -1, np.searchsorted(used, values) + before[name])
                    before[name] += len(words)
                    writer.write_words(name, *packed(words))
                writer.write(chunk, name, packed_values(values, kind_of(kind)))
        writer.close(np.array(left_out, np.int64))
        return path.read_bytes()


def same(a: Shard, b: Shard) -> bool:
    """Equal to the bit: names in order, types, kinds of array, NaN and -0.0 included."""
    return (
        list(a.columns) == list(b.columns)
        and dict(a.types) == dict(b.types)
        and {k: list(v) for k, v in a.vocabularies.items()} == {k: list(v) for k, v in b.vocabularies.items()}
        and all(
            a.columns[name].dtype == b.columns[name].dtype
            and a.columns[name].tobytes() == b.columns[name].tobytes()
            for name in a.columns
        )
    )


NAMES = st.text(max_size=8) | st.sampled_from(
    ["", "header", "c0", "c0.npy", "../x", "/", "\0", "__proto__", "a" * 300, "\ud800", "columns"]
)


@st.composite
def shards(draw) -> Shard:
    rows = draw(st.integers(0, 5))
    columns, types, vocabularies = {}, {}, {}
    for name in draw(st.lists(NAMES, max_size=5, unique=True)):
        kind = draw(st.sampled_from([kind for kind in ColumnType if kind is not ColumnType.TEXT]))
        types[name] = kind
        if kind is CATEGORY:
            vocabularies[name] = sorted(draw(st.sets(NAMES, max_size=4)))
            codes = st.integers(-1, len(vocabularies[name]) - 1)
            columns[name] = np.array(draw(st.lists(codes, min_size=rows, max_size=rows)), np.int32)
        elif kind is TIMESTAMP:
            ticks = st.integers(NAT, 2**63 - 1)
            columns[name] = np.array(draw(st.lists(ticks, min_size=rows, max_size=rows)), np.int64)
        else:
            values = st.sampled_from([0.0, 1.0, np.nan]) if kind is ColumnType.BOOLEAN else st.floats()
            columns[name] = np.array(draw(st.lists(values, min_size=rows, max_size=rows)), float)
    return Shard(columns, types, vocabularies)


def used(whole: Shard) -> Shard:
    """Without the words that no row has."""
    columns, words = dict(whole.columns), {}
    for name, vocabulary in whole.vocabularies.items():
        codes = whole.columns[name].tolist()
        words[name] = sorted({vocabulary[code] for code in codes if code >= 0})
        columns[name] = np.array(
            [words[name].index(vocabulary[c]) if c >= 0 else -1 for c in codes], np.int32
        )
    return Shard(columns, whole.types, words)


@given(shards(), st.data())
def test_a_shard_comes_back_as_it_was_whatever_its_names_values_and_chunks(whole, data):
    """The rows that were left out are not in it, nor are words that only they have."""
    rows = whole.rows
    cuts = sorted(data.draw(st.lists(st.integers(0, rows), max_size=3)))
    left_out = sorted(data.draw(st.sets(st.integers(0, rows - 1)))) if rows else []
    kept = np.ones(rows, bool)
    kept[left_out] = False
    assert same(load(dump(whole, cuts, left_out)), used(whole.take(kept)))


def test_words_come_in_pieces_and_codes_count_them_all(tmp_path):
    """A word may come twice, and before or after the rows that have it."""
    writer = Writer(tmp_path / "s", [("c", CATEGORY), ("x", NUMBER)])
    for codes in ([0, 1], [1, -1]):
        chunk = writer.open_chunk(2)
        writer.write(chunk, "c", np.array(codes, np.int32))
        writer.write(chunk, "x", np.array([1.0, 2.0]))
    writer.write_words("c", *packed(["b", "a"]))
    chunk = writer.open_chunk(3)
    writer.write(chunk, "c", np.array([2, 3], np.int32))
    writer.write(chunk, "c", np.array([0], np.int32))
    writer.write(chunk, "x", np.array([1.0, 2.0, 3.0]))
    writer.write_words("c", *packed(["c", "a"]))
    writer.close(np.empty(0, np.int64))
    found = load((tmp_path / "s").read_bytes())
    assert found.vocabularies["c"] == ["a", "b", "c"]
    assert found.columns["c"].tolist() == [1, 0, 0, -1, 2, 0, 1]
    assert found.columns["x"].tolist() == [1, 2, 1, 2, 1, 2, 3]


def test_the_same_rows_give_the_same_bytes():
    """Content decides the name of what is stored: a second writing must not look like a change."""
    assert dump(shard(x=[1, 2], c=["a", None])) == dump(shard(x=[1, 2], c=["a", None]))
    assert dump(shard(x=[1, 2])) != dump(shard(x=[1, 3]))


def with_footer(text: bytes) -> bytes:
    """A shard that holds nothing but this footer, its checksum right."""
    sizes = np.array([zlib.crc32(text), len(text)], "<u8").tobytes()
    return b"REFITSHD" + text + sizes + b"REFITSHD"


def footer(**changed) -> bytes:
    told = {"format": 1, "columns": [], "chunks": [], "words": [], "left_out": [8, 0, 0]}
    return with_footer(json.dumps(told | changed).encode())


WHOLE = dump(shard(x=np.arange(100.0), c=["a", "b"] * 50))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"nothing",
        b"PK\x03\x04",
        WHOLE[: len(WHOLE) // 2],
        WHOLE[:200] + b"\xff" * 40 + WHOLE[240:],
        with_footer(b"{"),
        with_footer(b"[]"),
        with_footer(b'{"format": 1}'),
        footer(columns=[["x", "odd", "f8"]]),
        footer(columns=[["x", "number", "f2"]]),
        footer(columns=[["x", "number", "f8"]], chunks=[[1000, 8, [0]]]),
        footer(columns=[["c", "category", "i4"]], chunks=[[1, 0, [0]]]),  # sums that are wrong
        footer(left_out=[8, 1000, 0]),
    ],
)
def test_bytes_that_are_no_shard_are_refused(data):
    with pytest.raises(ArtifactError, match="not a shard"):
        load(data)


def test_a_plain_array_is_no_shard():
    buffer = io.BytesIO()
    np.save(buffer, np.ones(3))
    with pytest.raises(ArtifactError):
        load(buffer.getvalue())


def test_a_shard_of_another_format_says_what_to_do():
    with pytest.raises(ArtifactError, match="shard format 3 is not 1; deploy matching code"):
        load(footer(format=3))


@given(st.integers(0, len(WHOLE) - 1), st.integers(1, 255))
def test_a_changed_byte_is_refused_or_changes_nothing(place, change):
    data = bytearray(WHOLE)
    data[place] ^= change
    try:
        found = load(bytes(data))
    except ArtifactError:
        return
    assert same(found, load(WHOLE))


def test_nulls_are_known_by_type():
    s = shard(x=[1, np.nan], c=["a", None], at=[0, NAT])
    assert [s.is_null(name).tolist() for name in ("x", "c", "at")] == [[False, True]] * 3
    assert s.rows == 2
    assert Shard({}, {}).rows == 0


def test_rows_are_taken_by_mask_or_in_the_order_of_positions():
    s = shard(x=[1, 2, 3], c=["a", "b", None])
    assert s.take(np.array([True, False, True])).columns["x"].tolist() == [1, 3]
    assert s.take(np.array([2, 0])).columns["c"].tolist() == [-1, 0]


# --- fingerprints


def test_a_row_keeps_its_fingerprint_wherever_it_stands_and_whatever_its_codes():
    a = shard(x=[1, 2, 3], c=["aachen", "bonn", None], at=[5, 6, NAT])
    b = shard(at=[NAT, 6], c=[None, "bonn"], x=[3, 2])
    assert a.vocabularies["c"] != b.vocabularies["c"]
    assert b.fingerprints().tolist() == a.fingerprints()[[2, 1]].tolist()


def test_every_value_and_every_name_counts():
    """Nulls, zero, swapped columns and a word that moves to another column are all told apart."""
    rows = [
        shard(a=[1], b=[2]),
        shard(a=[2], b=[1]),
        shard(a=[1], b=[np.nan]),
        shard(a=[1], b=[0]),
        shard(a=[1], c=[2]),
        shard(a=["x"], b=["y"]),
        shard(a=["y"], b=["x"]),
        shard(a=["x"], b=[None, "y"]).take(np.array([0])),
    ]
    assert len({int(row.fingerprints()[0]) for row in rows}) == len(rows)


@pytest.mark.parametrize("name", ["city", "c" * 200])
def test_a_word_that_is_its_columns_name_counts_like_any_other(name):
    """Long words are hashed as names are."""
    rows = [
        shard(**{name: [name]}, x=[1]),
        shard(**{name: ["Ulm"]}, x=[1]),
        shard(**{name: [None, "Ulm"]}, x=[1, 1]).take(np.array([0])),
        shard(x=[1]),
    ]
    assert len({int(row.fingerprints()[0]) for row in rows}) == len(rows)


def test_both_zeros_are_one_value():
    assert shard(x=[0.0]).fingerprints() == shard(x=[-0.0]).fingerprints()


def test_fingerprints_of_many_rows_do_not_collide():
    grid = np.arange(300.0)
    s = shard(x=np.repeat(grid, 300), z=np.tile(grid, 300))
    assert len(np.unique(s.fingerprints())) == 90_000


# --- joining


def test_batches_are_joined_over_one_vocabulary():
    a, b = shard(c=["ulm", None, "bonn"]), shard(c=["aachen", "ulm"])
    joint = concatenate([a, b], [Column("c", CATEGORY)])
    assert joint.vocabularies["c"] == ["aachen", "bonn", "ulm"]
    assert joint.columns["c"].tolist() == [2, -1, 1, 0, 2]


def test_a_column_that_an_older_batch_lacks_is_null_there_and_others_are_left_out():
    old, new = shard(x=[1, 2]), shard(x=[3], c=["a"], at=[7], extra=[9])
    joint = concatenate([old, new], [Column("c", CATEGORY), Column("at", TIMESTAMP), Column("x", NUMBER)])
    assert list(joint.columns) == ["c", "at", "x"]
    assert joint.columns["c"].tolist() == [-1, -1, 0]
    assert joint.columns["at"].tolist() == [NAT, NAT, 7]
    assert joint.columns["x"].tolist() == [1, 2, 3]
    lacking = concatenate([old], [Column("z", NUMBER)])
    assert np.isnan(lacking.columns["z"]).all()


@given(shards(), st.integers(0, 5))
def test_joining_what_was_cut_gives_the_whole(whole, at):
    columns = [Column(name, kind) for name, kind in whole.types.items()]
    parts = [whole.take(np.arange(whole.rows) < at), whole.take(np.arange(whole.rows) >= at)]
    assert same(concatenate(parts, columns), concatenate([whole], columns))


def test_a_frame_has_numbers_and_categoricals_of_plain_strings():
    frame = to_frame(shard(x=[1, np.nan], c=["b", None], z=[0, 0]), ["c", "x"])
    assert list(frame.columns) == ["c", "x"]
    assert frame["x"].dtype == float
    assert isinstance(frame["c"].dtype, pd.CategoricalDtype)
    assert frame["c"].cat.categories.dtype == object
    assert frame["c"].tolist()[0] == "b"
    assert frame["c"].isna().tolist() == [False, True]


def test_a_column_that_an_older_shard_lacks_is_given_its_fill():
    old, new = shard(x=[1, 2]), shard(x=[3], n=[7], c=["b"])
    columns = [Column("x", NUMBER), Column("n", NUMBER, fill=5.0), Column("c", CATEGORY, fill="z")]
    joint = concatenate([old, new, old], columns)
    assert joint.columns["n"].tolist() == [5, 5, 7, 5, 5]
    assert [joint.vocabularies["c"][code] for code in joint.columns["c"]] == ["z", "z", "b", "z", "z"]


def test_a_column_that_was_of_another_kind_is_missing_not_misread():
    """Codes of words are no numbers, and numbers no codes: a model of them would be nonsense."""
    old = shard(x=["a", "b"], c=[3, 4])
    joint = concatenate([old, shard(x=[7], c=["w"])], [Column("x", NUMBER), Column("c", CATEGORY)])
    np.testing.assert_array_equal(joint.columns["x"], [np.nan, np.nan, 7])
    assert joint.columns["c"].tolist() == [-1, -1, 0]
