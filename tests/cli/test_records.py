"""`refit predict` shows the champion what an upload of the same file would show it, or says what it does not."""

import gzip

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from refit.contract import Dialect
from refit.errors import UnreadableFile
from refit_cli import records
from refit_cli.usage import UsageError

FEATURES = (
    {"name": "ash", "type": "number"},
    {"name": "grade", "type": "category"},
    {"name": "new", "type": "boolean"},
)
PLAIN = Dialect()
COMMAS = Dialect(delimiter=";", decimal=",")


@pytest.fixture
def read(tmp_path):
    """Reads a file of these bytes."""

    def call(content: bytes, features=FEATURES, dialect: Dialect = PLAIN) -> records.Rows:
        path = tmp_path / "new.csv"
        path.write_bytes(content)
        return records.read(path, features, dialect)

    return call


def test_the_dialect_of_the_model_is_that_of_the_file(read):
    """Read with commas between columns, every row would be one in which everything is missing."""
    found = read(b'ash;grade;new\n"1,5";a;true\n-2;b;no\n', dialect=COMMAS)
    assert found.records == [
        {"ash": 1.5, "grade": "a", "new": 1.0},
        {"ash": -2.0, "grade": "b", "new": 0.0},
    ]
    assert found.notes == ()


def test_a_delimiter_is_found_out_and_a_packed_file_unpacked(read):
    expected = [{"ash": 1.5, "grade": "a", "new": 0.0}]
    assert read(b"ash|grade|new\n1.5|a|0\n").records == expected
    assert read(gzip.compress(b"ash,grade,new\n1.5,a,0\n")).records == expected


def test_a_category_of_digits_stays_as_it_is_written(read):
    """Beside an empty value pandas reads 1 as 1.0, and 01 as 1: categories that no model has learned."""
    found = read(b"ash,grade,new\n1,01,1\n2,,1\n3,1,1\n")
    assert [record["grade"] for record in found.records] == ["01", None, "1"]


def test_a_column_that_pandas_made_the_index_is_a_column(tmp_path):
    path = tmp_path / "new.parquet"
    table = pa.table({"ash": [1.0, None], "grade": ["a", "b"], "new": [True, False]})
    index = b'{"index_columns": ["ash"], "columns": [], "column_indexes": []}'
    pq.write_table(table.replace_schema_metadata({b"pandas": index}), path)
    assert records.read(path, FEATURES, PLAIN).records == [
        {"ash": 1.0, "grade": "a", "new": 1.0},
        {"ash": None, "grade": "b", "new": 0.0},
    ]


def test_only_what_the_champion_is_shown_is_sent(read):
    found = read(b"loan,ash,grade,new,repaid\n7,1,a,1,yes\n")
    assert found == records.Rows([{"ash": 1.0, "grade": "a", "new": 1.0}], ())


def test_an_absent_column_is_told_with_the_name_that_may_be_meant(read):
    found = read(b"Ash,grade,new\n1,a,1\n")
    assert found.records == [{"grade": "a", "new": 1.0}]
    assert found.notes == ("no column 'ash', predicted as if its values were missing; is 'Ash' meant?",)


def test_values_of_another_type_are_counted(read):
    found = read(b"ash,grade,new\nabc,a,1\n2,a,perhaps\ninf,b,1\n,b,1\n")
    assert [record["ash"] for record in found.records] == [None, 2.0, None, None]
    assert [record["new"] for record in found.records] == [1.0, None, 1.0, 1.0]
    assert found.notes == (
        "2 values of 'ash' cannot be read as number, predicted as if missing",
        "1 value of 'new' cannot be read as boolean, predicted as if missing",
    )


def test_numbers_written_in_another_way_are_one_note(read):
    names = [f"x{i}" for i in range(7)]
    features = [{"name": name, "type": "number"} for name in names]
    found = read((";".join(names) + "\n" + ";".join(["1.5"] * 7) + "\n").encode(), features, COMMAS)
    assert found.notes == (
        "7 values of 'x0', 'x1', 'x2', 'x3', 'x4' and 2 more are not of the columns' types, predicted as if missing; "
        "is [csv] in model.toml how this file is written?",
    )


def test_a_header_alone_is_no_row(read):
    assert read(b"ash,grade,new\n") == records.Rows([], ())


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "The file is empty"),
        (b"a,b\n1,2\n", "none of the columns that the model learned from is there: 'ash', 'grade', 'new'"),
        (b"ash,ash,new\n1,2,1\n", "columns of the same name: 'ash'; rename or drop one of each"),
        (b"PK\x03\x04 and so on", "Looks like a zip archive or a workbook"),
    ],
)
def test_what_is_no_table_of_the_model_is_refused_by_file_and_fault(read, tmp_path, content, says):
    with pytest.raises(UnreadableFile) as refused:
        read(content)
    assert str(refused.value).startswith(f"{tmp_path / 'new.csv'}: ") and says in str(refused.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"absent\.csv: no such file"):
        records.read(tmp_path / "absent.csv", FEATURES, PLAIN)
