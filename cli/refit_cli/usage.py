"""A command that was given what it cannot work with: exit code 2, as for an unknown option."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path

from refit.errors import ConfigError, RefitError
from refit.models import ModelSpec, load_model


class UsageError(RefitError):
    """The message says which argument is wrong, and what it may be."""


def files(paths: Sequence[Path]) -> list[Path]:
    """The paths, if all of them are files."""
    for path in paths:
        if path.is_dir():
            raise UsageError(f"{path} is a folder; name the files in it, such as {path / '*.parquet'}")
        if not path.exists() and any(sign in str(path) for sign in "*?["):
            raise UsageError(f"{path} matches no file; look with: ls {path.parent}")
        if not path.exists():
            raise UsageError(f"{path}: no such file{near(path.name, _names(path.parent))}")
        if not path.is_file():
            raise UsageError(f"{path} is no regular file; copy what it gives into one")
    return list(paths)


def model(folder: Path, name: str) -> ModelSpec:
    """The model of that name; only its own folder is read."""
    path = folder / name
    if path.parent == folder and (path / "model.toml").is_file():
        return load_model(path)
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder; name that of your models with --models DIR")
    known = [each for each in _names(folder) if (folder / each / "model.toml").is_file()]
    told = ", ".join(known) or "none"
    raise UsageError(
        f"no model {name!r} in {folder}; there are: {told}{near(name, known)}; or: refit init {name}"
    )


def near(name: str, known: Iterable[str]) -> str:
    """A suggestion for a misspelt name, to be put at the end of a sentence; empty when nothing is near."""
    found = difflib.get_close_matches(name, list(known), n=1)
    return f"; is {found[0]!r} meant?" if found else ""


def _names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir()) if folder.is_dir() else []
