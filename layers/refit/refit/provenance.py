"""What a model was made by: the code that trains, and the model's own."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

import refit
from refit.models import ModelSpec


def code_version(spec: ModelSpec) -> str:
    """The release, then 12 digits each of the domain's source and of model.py, if there is one."""
    own = f"+{spec.code_sha256[:12]}" if spec.code_sha256 else ""
    return f"{refit.__version__}+{_domain()}{own}"


@cache
def _domain() -> str:
    """Of every module that knows nothing of AWS: those that do fit nothing."""
    found = hashlib.sha256()
    for path in sorted(Path(refit.__file__).parent.glob("*.py")):
        found.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest()[:12]
