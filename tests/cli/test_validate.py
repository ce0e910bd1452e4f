"""`refit validate`: exit codes, JSON, words, drift against a reference."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from moto_stack import MODELS
from rows import csv, flights, parquet

from refit_cli.main import main

KEYS = ["outcome", "rows", "bad_rows", "reasons", "warnings", "coercions", "profile"]


@pytest.fixture
def run(tmp_path, capsys):
    """Validates files against tests/models; returns exit code, standard output and error."""

    def call(*arguments: object, model: str = "flights", models: Path = MODELS) -> tuple[int, str, str]:
        found = main(["validate", *map(str, arguments), "--model", model, "--models", str(models)])
        out = capsys.readouterr()
        return found, out.out, out.err

    return call


@pytest.fixture
def good(tmp_path) -> Path:
    path = tmp_path / "good.parquet"
    path.write_bytes(parquet(flights(100)))
    return path


def test_an_accepted_file_exits_with_0_and_says_what_it_holds(run, good):
    code, out, err = run(good)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "accepted: 100 rows, 2013-01-01 to 2013-01-01"
    head, *table = lines[lines.index("") + 1 :]
    assert head.split() == ["column", "type", "empty", "values"]
    assert any(line.split()[:3] == ["distance", "number", "0.0%"] for line in table)
    assert len({line.index("0.0%") for line in table}) == 1  # aligned


def test_a_rejected_file_exits_with_1_and_all_reasons(run, tmp_path):
    frame = flights(100).rename(columns={"distance": "distanc"})
    frame["origin"] = "BER"
    (tmp_path / "bad.csv").write_bytes(csv(frame))
    code, out, _ = run(tmp_path / "bad.csv")
    assert code == 1
    assert out.startswith("quarantined: 100 rows, 100 break a hard rule\n  missing_column: ")
    assert "is 'distanc' meant? Rename it." in out and "\n  unknown_category: " in out


def test_json_is_as_documented(run, good, tmp_path):
    code, out, _ = run(good, "--json")
    found = json.loads(out)
    assert (code, list(found)) == (0, KEYS)
    assert (found["outcome"], found["rows"], found["bad_rows"], found["reasons"]) == ("accepted", 100, 0, [])
    assert found["profile"]["columns"]["distance"]["rows"] == 100
    (tmp_path / "junk").write_bytes(b"\x00\x01\x02 junk")
    code, out, _ = run(tmp_path / "junk", "--json")
    found = json.loads(out)
    assert (code, list(found), found["outcome"]) == (1, KEYS, "quarantined")
    assert [list(reason) for reason in found["reasons"]] == [["code", "message", "column", "count"]]


def test_a_manifest_stands_for_the_files_that_it_names(run, tmp_path):
    """They are found beside it by their names; one that is not there is a reason."""
    for month in (1, 2):
        (tmp_path / f"{month}.parquet").write_bytes(parquet(flights(100, month=month)))
    listed = tmp_path / "batch.json"
    listed.write_text(json.dumps({"files": [f"parts/flights/2013/{month}.parquet" for month in (1, 2)]}))
    assert json.loads(run(listed, "--json")[1])["rows"] == 200
    (tmp_path / "2.parquet").unlink()
    code, out, _ = run(listed)
    assert code == 1 and "bad_manifest" in out and "2.parquet" in out


def test_several_files_form_one_batch(run, tmp_path):
    """A key that two of them share is a repeated row."""
    for month in (1, 2):
        (tmp_path / f"{month}.parquet").write_bytes(parquet(flights(100, month=month)))
    assert json.loads(run(tmp_path / "1.parquet", tmp_path / "2.parquet", "--json")[1])["rows"] == 200
    (tmp_path / "copy.parquet").write_bytes(parquet(flights(100)))
    code, out, _ = run(tmp_path / "1.parquet", tmp_path / "copy.parquet", "--json")
    assert code == 1
    assert [(r["code"], r["count"]) for r in json.loads(out)["reasons"]] == [("duplicate_key", 100)]


def test_drift_is_there_when_there_is_something_to_compare_with(run, tmp_path, good):
    moved = flights(2000, month=2)
    moved["distance"] = moved["distance"] / 4 + 20
    (tmp_path / "moved.parquet").write_bytes(parquet(moved))
    (tmp_path / "before.parquet").write_bytes(parquet(flights(2000)))
    code, out, _ = run(tmp_path / "moved.parquet", "--reference", tmp_path / "before.parquet", "--json")
    assert code == 0
    assert json.loads(out)["drift"]["drifted"] == ["distance"]
    printed = run(tmp_path / "before.parquet", "--json")[1]
    (tmp_path / "printed.json").write_text(printed)
    (tmp_path / "profile.json").write_text(json.dumps(json.loads(printed)["profile"]))
    for name in ("printed.json", "profile.json"):
        _, out, _ = run(tmp_path / "moved.parquet", "--reference", tmp_path / name)
        assert "\ndrift: 1 column\n  distance: " in out
    _, out, _ = run(tmp_path / "before.parquet", "--reference", tmp_path / "before.parquet")
    assert "\ndrift: none\n" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["gone.parquet"], "no such file"),
        (["god.parquet"], "is 'good.parquet' meant?"),
        (["*.csv"], "matches no file"),
        ([""], "is a folder; name the files in it"),
        (["good.parquet", "--model", "fligths"], "is 'flights' meant?"),
        (["good.parquet", "--model", "../models/flights"], "no model '../models/flights'"),
        (["good.parquet", "--models", "nowhere"], "no such folder"),
        (["good.parquet", "--reference", "gone.json"], "no such file"),
        (["good.parquet", "--reference", "other.json"], "is no profile"),
        (["good.parquet", "--reference", "junk.csv"], "is not accepted itself"),
    ],
)
def test_what_is_no_verdict_exits_with_2(capsys, tmp_path, monkeypatch, good, arguments, words):
    """Who looks at the exit code alone must not take a misspelt name for a bad file."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other.json").write_text('{"a": 1}')
    (tmp_path / "junk.csv").write_text("junk\n1\n")
    defaults = ["--model", "flights", "--models", str(MODELS)]
    assert main(["validate", *defaults, *arguments]) == 2
    out = capsys.readouterr()
    assert out.out == ""
    assert words in out.err


def test_a_model_that_is_declared_wrongly_is_no_verdict(run, good, tmp_path):
    folder = tmp_path / "models/broken"
    folder.mkdir(parents=True)
    (folder / "model.toml").write_text("task = 3")
    code, _, err = run(good, model="broken", models=tmp_path / "models")
    assert code == 2
    assert "model.toml: task: must be text" in err


def test_options_that_are_missing_or_unknown_exit_with_2(good):
    for arguments in ([str(good)], [str(good), "--model", "flights", "--jsn"], []):
        with pytest.raises(SystemExit) as ended:
            main(["validate", *arguments])
        assert ended.value.code == 2


HEAVY = ("pandas", "sklearn", "scipy", "boto3", "botocore", "moto", "ministack", "cronsim")


@pytest.mark.parametrize("command", ["validate", "init"])
def test_neither_needs_what_makes_a_start_slow(good, tmp_path, command):
    own = {
        "validate": ["validate", str(good), "--model", "flights", "--models", str(MODELS)],
        "init": ["init", "m", str(good), "--target", "late", "--models", str(tmp_path)],
    }[command]
    code = f"import sys; from refit_cli.main import main; main({own!r}); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = done.stdout.splitlines()[-1].split()
    assert [name for name in HEAVY if name in loaded] == []


def test_rows_that_break_rules_are_listed_where_it_is_asked(run, tmp_path):
    frame = flights(200)
    frame.loc[7, "distance"] = 7000.0
    (tmp_path / "some.parquet").write_bytes(parquet(frame))
    code, out, _ = run(tmp_path / "some.parquet", "--bad-rows", tmp_path / "bad.csv", "--json")
    found = json.loads(out)
    assert (code, found["rows"], found["bad_rows"]) == (0, 199, 1)
    assert "out_of_range" in (tmp_path / "bad.csv").read_text()


def test_freshness_is_judged_by_the_clock(run, good, tmp_path):
    shutil.copytree(MODELS / "flights", tmp_path / "models/flights")
    path = tmp_path / "models/flights/model.toml"
    path.write_text(path.read_text().replace("min_rows = 20", 'min_rows = 20\nfresh = "9 days"'))
    code, out, _ = run(good, "--json", models=tmp_path / "models")
    assert (code, "not_fresh" in [w["code"] for w in json.loads(out)["warnings"]]) == (0, True)
    path.write_text(path.read_text().replace("min_rows = 20", 'min_rows = 20\nhard = ["fresh"]'))
    assert run(good, models=tmp_path / "models")[0] == 1


def test_numbers_among_words_in_another_file_are_one_batch(run, tmp_path):
    """A CSV and a Parquet file of the same rows: each is read as the contract says."""
    (tmp_path / "1.parquet").write_bytes(parquet(flights(100)))
    (tmp_path / "2.csv").write_bytes(csv(flights(100, month=2)))
    assert json.loads(run(tmp_path / "1.parquet", tmp_path / "2.csv", "--json")[1])["rows"] == 200


def test_many_converted_columns_are_one_line_and_all_of_them_in_the_document(tmp_path, capsys):
    """Of a CSV in which everything is quoted each column is converted, and what matters would be lost among them."""
    folder = tmp_path / "models" / "m"
    folder.mkdir(parents=True)
    columns = "\n".join(f'{name} = {{ type = "number" }}' for name in "abcde")
    (folder / "model.toml").write_text(
        f'task = "regression"\ntarget = "e"\n[columns]\n{columns}\n[gates]\nmetric = "r2"\n'
    )
    path = tmp_path / "a.csv"
    path.write_text('"a","b","c","d","e"\n"1","2","3","4","5"\n')
    arguments = ["validate", str(path), "--model", "m", "--models", str(tmp_path / "models")]
    assert main(arguments) == 0
    told = [line.strip() for line in capsys.readouterr().out.splitlines() if "coerced" in line]
    assert told == [
        "coerced: 5 columns read as the types of the contract, nothing was lost: 'a', 'b', 'c' and 2 more."
    ]
    assert main([*arguments, "--json"]) == 0
    assert [each["column"] for each in json.loads(capsys.readouterr().out)["coercions"]] == list("abcde")
