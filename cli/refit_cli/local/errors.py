"""What can go wrong with the local stack; each message says what to do."""

from __future__ import annotations


class LocalStackError(Exception):
    """The local stack cannot start, or cannot go on."""


class PortTaken(LocalStackError):
    """Somebody else listens on the port that was asked for."""


class DiskFull(LocalStackError):
    """There is no room for the layers, the functions and their scratch files."""


class EngineDied(LocalStackError):
    """The engine's process ended although nobody asked it to."""


class PackageFailed(LocalStackError):
    """A function, layer or state machine named by the template could not be packed."""


class DeployFailed(LocalStackError):
    """CloudFormation refused the stack, or a resource of it."""
