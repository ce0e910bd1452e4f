import logging
from io import StringIO

import pytest
from moto_stack import moto_stack

from refit.aws import runtime


@pytest.fixture
def stack(monkeypatch):
    """An empty stack; executions are started and stay running."""
    with moto_stack(monkeypatch) as found:
        yield found


@pytest.fixture
def logs():
    """All that functions log from here on, as text."""
    text = StringIO()
    handler = logging.StreamHandler(text)
    handler.setFormatter(runtime.logger.registered_formatter)
    logger = logging.getLogger(runtime.logger.name)
    logger.addHandler(handler)
    yield text
    logger.removeHandler(handler)
