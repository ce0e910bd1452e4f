"""What must be in the environment before any code is loaded."""

import os

# As Lambda sets it for the functions: Powertools reads it on import.
os.environ.setdefault("POWERTOOLS_SERVICE_NAME", "refit")
os.environ.setdefault("POWERTOOLS_METRICS_NAMESPACE", "Refit")
# Threads cost tiny models more than they bring, tenfold where other work wants the cores as well.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Bytes may hold the time they were made at, and a test's name must not: workers have to agree on it."""
    return argname if isinstance(val, bytes) else None
