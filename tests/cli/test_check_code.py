"""`refit check`: what a model's own code and parameters do on made-up rows is known before anything is deployed."""

from __future__ import annotations

from pathlib import Path

import pytest

from refit_cli.main import main

TOML = """
task = "binary"
target = "paid"
[columns]
paid = { type = "boolean" }
amount = { type = "number" }
[gates]
metric = "roc_auc"
"""
LOGISTIC = "from sklearn.linear_model import LogisticRegression\n"


def check(models: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The lines with which all models below the folder are refused."""
    assert main(["check", "--models", str(models)]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    return told.err.removeprefix("refit check: ").splitlines()


def model(models: Path, name: str, toml: str = TOML, code: str | None = None) -> Path:
    folder = models / name
    folder.mkdir()
    (folder / "model.toml").write_text(toml)
    if code is not None:
        (folder / "model.py").write_text(code)
    return folder


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import sys\nsys.exit(0)", "fails on import: SystemExit: 0"),
        ("def build():\n    raise SystemExit(0)", "build() failed: SystemExit: 0"),
        (
            LOGISTIC + "def build():\n    return LogisticRegression",
            "build() returned the class LogisticRegression; return one of it, LogisticRegression()",
        ),
        (
            LOGISTIC + "def build():\n    return LogisticRegression(C=-1)",
            "LogisticRegression.fit failed: InvalidParameterError",
        ),
    ],
)
def test_code_that_gives_no_estimator_is_refused_with_its_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], code: str, said: str
) -> None:
    """Even code that ends the process: a check that ended with 0 would let it be deployed."""
    folder = model(tmp_path, "loans", code=code)
    assert check(tmp_path, capsys)[0].startswith(f"{folder}/model.py: {said}")


def test_parameters_that_do_not_fit_are_named_with_file_key_and_fix(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file that was read, wherever it lies, and every wrong key of every model."""
    wrong = "[estimator]\nmax_iters = 3\nrandom_state = 1\n"
    first = model(tmp_path, "a", TOML + wrong)
    second = model(tmp_path, "b", TOML + '[estimator]\nmax_iter = "many"\n')
    lines = check(tmp_path, capsys)
    assert lines[0] == f"{first}/model.toml: estimator.max_iters: unknown key; did you mean 'max_iter'?"
    assert lines[1] == f"{first}/model.toml: estimator.random_state: is set by Refit; remove it"
    assert lines[2].startswith(
        f"{second}/model.toml: [estimator]: Pipeline.fit failed: InvalidParameterError: "
    )
    assert len(lines) == 3
