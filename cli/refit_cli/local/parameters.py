"""Values of the template's parameters, checked as CloudFormation would, but before anything is built or started."""

from __future__ import annotations

import difflib
import re
import shlex
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def mistakes(declared: Mapping[str, Any], given: Mapping[str, str]) -> list[str]:
    """What is wrong with values, each as `Name: what, and the fix`; of parameters not given their defaults count.

    Parameters
    ----------
    declared : the template's section Parameters
    given : values by name
    """
    found = []
    for name in given:
        if name not in declared:
            near = difflib.get_close_matches(name, declared, n=1)
            fix = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(declared)}"
            found.append(f"{name}: unknown parameter; {fix}")
    for name, rules in declared.items():
        value = given.get(name, rules.get("Default"))
        problem = "must be given, it has no default" if value is None else _problem(rules, str(value))
        if problem:
            found.append(f"{name}: {problem}")
    return found


def _problem(rules: Mapping[str, Any], value: str) -> str:
    allowed = [str(each) for each in rules.get("AllowedValues", [])]
    if allowed and value not in allowed:
        return f"must be one of {', '.join(allowed)}, not {value!r}"
    if rules.get("Type") == "Number":
        low, high = rules.get("MinValue"), rules.get("MaxValue")
        span = f" from {low} to {high}" if low is not None and high is not None else ""
        whole = re.fullmatch(r"-?[0-9]{1,18}", value)
        if not whole or (low is not None and int(value) < low) or (high is not None and int(value) > high):
            return f"must be a whole number{span}, not {value!r}"
    pattern = rules.get("AllowedPattern")
    if pattern and not re.fullmatch(pattern, value):
        return f"{rules.get('ConstraintDescription', f'must match {pattern}')}, not {value!r}"
    return ""


def of_samconfig(path: Path, declared: Mapping[str, Any]) -> list[str]:
    """What is wrong with the values that `sam deploy` would take from samconfig.toml, each with file and key."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        return []
    except (ValueError, RecursionError) as error:
        return [f"{path}: not valid TOML: {error}"]
    found = []
    for environment, commands in document.items():
        for command, content in commands.items() if isinstance(commands, dict) else ():
            values = content.get("parameters") if isinstance(content, dict) else None
            overrides = values.get("parameter_overrides") if isinstance(values, dict) else None
            if overrides is not None:
                key = f"{path}: {environment}.{command}.parameters.parameter_overrides"
                given = _overrides(overrides)
                if given is None:
                    found.append(f'{key}: must be such as "LogLevel=INFO TrainMemoryMb=3008"')
                else:
                    found += [f"{key}: {mistake}" for mistake in mistakes(declared, given)]
    return found


def _overrides(overrides: Any) -> dict[str, str] | None:
    """Values by name, from `Name=value ...` or `ParameterKey=Name,ParameterValue=value ...`; None for anything else."""
    try:
        words = shlex.split(overrides) if isinstance(overrides, str) else [str(word) for word in overrides]
    except (TypeError, ValueError):
        return None
    given = {}
    for word in words:
        long = re.fullmatch(r"ParameterKey=([^,]+),ParameterValue=(.*)", word)
        name, equals, value = long.expand(r"\1=\2").partition("=") if long else word.partition("=")
        if not equals:
            return None
        given[name] = value.strip("\"'")
    return given
