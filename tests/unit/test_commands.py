"""The command line, as far as it can be read without a stack."""

import argparse

from refit_cli.main import _parser


def test_no_argument_takes_the_place_of_what_a_command_runs():
    """argparse keeps both under a name: `refit resume-run` once called the run's id instead of its code."""
    (commands,) = (each for each in _parser()._actions if isinstance(each, argparse._SubParsersAction))
    taken = {
        name
        for name, command in commands.choices.items()
        for action in command._actions
        if action.dest in ("run", "command")
    }
    assert taken == set()
