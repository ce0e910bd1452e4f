"""`refit replay` as people call it: offline, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

TOML = """
task = "binary"
target = "late"
time = "at"

[columns]
at = { type = "timestamp" }
distance = { type = "number" }
late = { type = "boolean" }

[gates]
metric = "roc_auc"

[estimator]
max_iter = 10
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("replay")
    (folder / "models" / "trips").mkdir(parents=True)
    (folder / "models" / "trips" / "model.toml").write_text(TOML)
    (folder / "models" / "typo").mkdir()
    (folder / "models" / "typo" / "model.toml").write_text(TOML.replace("max_iter", "max_itre"))
    rng = np.random.default_rng(0)
    for month in range(1, 5):
        distance = rng.normal(size=500)
        frame = pd.DataFrame(
            {
                "at": pd.date_range(f"2024-{month:02d}-01", periods=500, freq="h", tz="UTC"),
                "distance": distance,
                "late": rng.random(500) < 1 / (1 + np.exp(-2 * distance)),
            }
        )
        frame.to_csv(folder / f"month-{5 - month}.csv", index=False)  # named against their order in time
    (folder / "broken.csv").write_text("at,distance\n2024-01-01,1\n")
    return folder


def refit(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # No account, no region, no network: what of AWS is in the environment would not help.
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    command = [sys.executable, "-m", "refit_cli.main", "replay", *arguments]
    return subprocess.run(command, cwd=folder, env=kept, capture_output=True, text=True, timeout=120)


FILES = ("month-1.csv", "month-2.csv", "month-3.csv", "month-4.csv")


def test_a_line_for_each_file_in_the_order_of_the_data_and_a_table(folder):
    done = refit(folder, "--model", "trips", *FILES, "broken.csv")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines if ".csv" in line] == [
        "month-4.csv", "broken.csv", "month-3.csv", "month-2.csv", "month-1.csv",
    ]  # fmt: skip
    assert "retrain: no champion yet" in lines[0]
    assert "[missing_column]" in next(line for line in lines if line.startswith("broken.csv"))
    assert "retrainings" in lines[-2]


def test_the_json_document_is_all_that_goes_to_stdout(folder):
    done = refit(folder, "--model", "trips", "--json", "--policy", "periodic:2", *FILES)
    document = json.loads(done.stdout)
    assert list(document) == ["summary", "batches"]
    assert list(document["summary"]) == [
        "metric", "score", "retrainings", "promotions", "cost_usd", "seconds",
    ]  # fmt: skip
    assert list(document["batches"][0]) == [
        "file", "rows", "outcome", "decision", "reasons", "candidate", "version", "champion_score", "challenger_score",
    ]  # fmt: skip
    assert document["summary"]["retrainings"] == 3


def test_all_policies_side_by_side(folder):
    done = refit(folder, "--model", "trips", "--compare", "--json", *FILES)
    document = json.loads(done.stdout)
    assert list(document) == ["policies", "baselines"]
    assert {"refit", "never", "always", "periodic:2"} <= set(document["policies"])
    assert set(document["policies"]["never"]) == {"summary", "batches"}
    shown = refit(folder, "--model", "trips", "--compare", *FILES).stdout
    assert all(name in shown for name in (*document["policies"], "baseline: class shares"))


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--model", "trips", "nothing.csv"], 1, "no such file: nothing.csv"),
        (["--model", "trips", "models"], 1, "models is a folder; name the files: models/*"),
        (["--model", "trip", "month-1.csv"], 1, "Did you mean 'trips'?"),
        (
            ["--model", "trips", "--policy", "monthly", "month-1.csv"],
            2,
            "'monthly' is none of refit, never, always",
        ),
        (["--model", "trips", "--policy", "never", "--compare", "month-1.csv"], 2, "not allowed with"),
        (["--model", "trips", "--models", "elsewhere", "month-1.csv"], 1, "elsewhere: no such folder"),
        (["--model", "trips"], 2, "FILE"),
        (["--model", "typo", "month-1.csv"], 1, "models/typo/model.toml: estimator."),
    ],
)
def test_what_cannot_be_done_is_said(folder, arguments, code, words):
    done = refit(folder, *arguments)
    assert (done.returncode, "Traceback" in done.stderr) == (code, False)
    assert words in done.stderr


def test_nothing_but_quarantined_files_ends_without_a_score(folder):
    done = refit(folder, "--model", "trips", "--json", "broken.csv")
    assert done.returncode == 0
    assert json.loads(done.stdout)["summary"]["score"] is None
