"""AWS on this machine: the project's own template.yaml, deployed to an embedded engine."""

from refit_cli.local.errors import (
    DeployFailed,
    DiskFull,
    EngineDied,
    LocalStackError,
    PackageFailed,
    PortTaken,
)
from refit_cli.local.stack import LocalStack, local_stack, project_template

__all__ = [
    "DeployFailed",
    "DiskFull",
    "EngineDied",
    "LocalStack",
    "LocalStackError",
    "PackageFailed",
    "PortTaken",
    "local_stack",
    "project_template",
]
