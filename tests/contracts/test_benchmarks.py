"""The benchmarks run; their figures are nobody's business here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def intake(tmp_path_factory):
    """One small round without peers: what it printed, and its runs by line."""
    folder = tmp_path_factory.mktemp("intake")
    words = [
        "--rows",
        "2000",
        "--only",
        "refit",
        "--rounds",
        "1",
        "--folder",
        folder,
        "--json",
        folder / "runs.json",
    ]
    script = ROOT / "benchmarks/intake.py"
    done = subprocess.run([sys.executable, script, *words], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    lines = {line["name"]: line for line in json.loads((folder / "runs.json").read_text())}
    return done.stdout, lines


def test_every_line_of_refit_and_every_limit_is_measured(intake):
    _, lines = intake
    assert {
        "scan-batches",
        "scan-csv",
        "scan-write",
        "refit",
        "refit-keyed",
        "refit-shard",
        "refit-csv",
    } < set(lines)
    assert {name: line["why"] for name, line in lines.items() if not line["runs"]} == {}


def test_a_line_says_what_it_took_and_that_it_read_everything(intake):
    _, lines = intake
    (run,) = lines["refit"]["runs"]
    assert 0 < run["seconds"] < run["whole"]
    assert run["peak"] > 20
    assert run["found"]["rows"] == 2000
    assert run["found"]["nulls"] == lines["refit-csv"]["runs"][0]["found"]["nulls"] > 0


def test_the_table_has_the_ratio_to_the_limit(intake):
    printed, _ = intake
    table = printed[printed.index("Parquet, 2,000 rows") :]
    heads, *rows = table.split("\n\n")[0].splitlines()
    assert "ratio" in heads
    assert any(row.startswith("*") and " 1.00 " in row for row in rows), "the limit's own ratio"
