"""Parameters of the template are checked before anything is built or started."""

from __future__ import annotations

from pathlib import Path

import pytest

from refit_cli.local import DeployFailed, local_stack, project_template
from refit_cli.local.package import read_template
from refit_cli.local.parameters import mistakes, of_samconfig

DECLARED = read_template(project_template())["Parameters"]


def test_the_defaults_of_the_template_and_ordinary_values_are_right() -> None:
    assert mistakes(DECLARED, {}) == []
    good = {"TickRate": "cron(0 6 * * ? *)", "NotifyEmail": "ml@example.org", "SweepAfterMinutes": "0"}
    assert mistakes(DECLARED, good) == []
    for rate in ("rate(1 minute)", "rate(1 day)", "rate(2 hours)", "rate(15 minutes)"):
        assert mistakes(DECLARED, {"TickRate": rate}) == []


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("LogLevel", "LOUD", "LogLevel: must be one of DEBUG, INFO, WARNING, ERROR, not 'LOUD'"),
        ("TrainMemoryMb", "12", "TrainMemoryMb: must be a whole number from 1024 to 10240, not '12'"),
        ("MaxUploadMb", "1e3", "MaxUploadMb: must be a whole number from 1 to 8192, not '1e3'"),
        ("MaxUploadMb", "9" * 5000, "MaxUploadMb: must be a whole number from 1 to 8192, not '99"),
        ("TickRate", "rate(1 minutes)", "TickRate: must be such as rate(1 minute), rate(15 minutes) or cron"),
        ("TickRate", "rate(0 minutes)", "TickRate: must be such as"),
        ("TickRate", "cron(0 6 * *)", "TickRate: must be such as"),
        ("NotifyEmail", "nobody", "NotifyEmail: must be an address such as ml@example.org, or empty, not"),
        ("Tickrate", "rate(1 minute)", "Tickrate: unknown parameter; did you mean 'TickRate'?"),
    ],
)
def test_a_wrong_value_is_named_with_the_fix(name: str, value: str, said: str) -> None:
    (mistake,) = mistakes(DECLARED, {name: value})
    assert mistake.startswith(said)


def test_a_default_that_is_wrong_or_missing_is_named() -> None:
    declared = {"A": {"Type": "Number", "Default": 0, "MinValue": 1, "MaxValue": 3}, "B": {"Type": "String"}}
    assert mistakes(declared, {}) == [
        "A: must be a whole number from 1 to 3, not '0'",
        "B: must be given, it has no default",
    ]


@pytest.mark.parametrize(
    "overrides",
    [
        '"LogLevel=\\"LOUD\\" TickRate=\\"rate(15 minutes)\\""',
        '["LogLevel=LOUD", "TickRate=rate(15 minutes)"]',
        '"ParameterKey=LogLevel,ParameterValue=LOUD"',
    ],
)
def test_what_samconfig_gives_is_read_in_all_its_forms(tmp_path: Path, overrides: str) -> None:
    file = tmp_path / "samconfig.toml"
    file.write_text(f"version = 0.1\n[default.deploy.parameters]\nparameter_overrides = {overrides}\n")
    key = f"{file}: default.deploy.parameters.parameter_overrides"
    assert of_samconfig(file, DECLARED) == [
        f"{key}: LogLevel: must be one of DEBUG, INFO, WARNING, ERROR, not 'LOUD'"
    ]


def test_a_samconfig_that_cannot_be_read_is_named_and_none_is_no_mistake(tmp_path: Path) -> None:
    file = tmp_path / "samconfig.toml"
    assert of_samconfig(file, DECLARED) == []
    file.write_text("version =")
    assert of_samconfig(file, DECLARED)[0].startswith(f"{file}: not valid TOML: ")
    file.write_text('[default.deploy.parameters]\nparameter_overrides = "LogLevel"\n')
    assert "must be such as" in of_samconfig(file, DECLARED)[0]


def test_the_stack_does_not_start_with_a_wrong_value(tmp_path: Path) -> None:
    """Named with the template's file and the key, before a process is started."""
    with (
        pytest.raises(DeployFailed, match=r"template\.yaml: Parameters\.LogLevel: must be one of DEBUG"),
        local_stack(models=tmp_path, parameters={"LogLevel": "LOUD"}),
    ):
        pass
