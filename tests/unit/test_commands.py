"""The command line, as far as it can be read without a stack."""

import argparse
import re
from pathlib import Path

from refit_cli.main import _parser

README = Path(__file__).parents[2] / "README.md"


def commands():
    (found,) = (each for each in _parser()._actions if isinstance(each, argparse._SubParsersAction))
    return found.choices


def test_the_readme_names_every_command():
    named = set(re.findall(r"(?:refit|make) ([a-z-]+)|`([a-z-]+)`", README.read_text()))
    assert set(commands()) <= {name for pair in named for name in pair}


def test_no_argument_takes_the_place_of_what_a_command_runs():
    """argparse keeps both under a name: `refit resume-run` once called the run's id instead of its code."""
    taken = {
        name
        for name, command in commands().items()
        for action in command._actions
        if action.dest in ("run", "command")
    }
    assert taken == set()
