"""`refit check`: every model is tried, and all that is wrong is named at once."""

from pathlib import Path

import pytest

from refit_cli.main import main

TOML = """
task = "binary"
target = "left"
[columns]
left = { type = "boolean" }
age = { type = "number" }
[gates]
metric = "roc_auc"
"""
WORDS = """
from sklearn.compose import make_column_transformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

def build():
    return make_pipeline(make_column_transformer((TfidfVectorizer(), "said")), LogisticRegression())
"""
FOREST = (
    "from sklearn.ensemble import RandomForestClassifier\ndef build(): return RandomForestClassifier(3)\n"
)
NEIGHBOURS = (
    "from sklearn.neighbors import KNeighborsClassifier\ndef build(): return KNeighborsClassifier()\n"
)
MUTE = "from sklearn.linear_model import LogisticRegression\ndef build(): return LogisticRegression(C=-1)\n"


@pytest.fixture
def check(tmp_path, capsys):
    """Checks models of these model.py; returns exit code, lines of standard output and of error."""

    def call(**codes: str) -> tuple[int, list[str], list[str]]:
        for name, code in codes.items():
            folder = tmp_path / name
            folder.mkdir()
            toml = TOML.replace("[gates]", 'said = { type = "category" }\n[gates]') if code == WORDS else TOML
            (folder / "model.toml").write_text(toml)
            if code:
                (folder / "model.py").write_text(code)
        found = main(["check", "--models", str(tmp_path)])
        out = capsys.readouterr()
        return found, out.out.splitlines(), out.err.splitlines()

    return call


def test_every_model_that_cannot_be_trained_is_named(check, tmp_path: Path):
    code, out, err = check(a=NEIGHBOURS, b="", c="def build(): return 42\n", d=MUTE, e=FOREST)
    assert code == 1
    assert [line.split(":")[0] for line in out] == ["b", "e"]
    assert [line.removeprefix("refit check: ").split(":")[0] for line in err] == [
        str(tmp_path / name / "model.py") for name in "acd"
    ]


def test_a_model_py_that_ends_the_program_ends_no_check(check):
    code, out, err = check(a="import sys\nsys.exit(0)\n", b="def build(): raise SystemExit(3)\n", c="")
    assert code == 1 and [line.split(":")[0] for line in out] == ["c"]
    assert "fails on import: SystemExit: 0" in err[0] and "build() failed: SystemExit: 3" in err[1]


def test_a_category_of_sentences_may_be_vectorized(check):
    """The words that are made up for it are words to a vectorizer: of single letters it makes nothing."""
    code, out, err = check(a=WORDS)
    assert (code, err) == (0, []) and out[0].startswith("a: binary, 2 features")
