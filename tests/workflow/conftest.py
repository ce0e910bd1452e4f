import functools
import threading

import pytest
from moto.awslambda_simple.models import LambdaSimpleBackend
from moto.dynamodb.models import DynamoDBBackend
from moto_stack import moto_stack
from moto_workflow import Workflow

from refit_cli.oracle import check


@pytest.fixture
def one_write_at_a_time(monkeypatch):
    """Executions run in threads of their own, and moto's table is not made for that.

    It copies the table before a transaction and puts the copy back when the
    transaction is refused: what others wrote in between would be gone.
    """
    lock = threading.RLock()

    def guarded(method):
        @functools.wraps(method)
        def write(*args, **kwargs):
            with lock:
                return method(*args, **kwargs)

        return write

    # Nor are Powertools' metrics made for handlers in several threads: in Lambda there is one.
    monkeypatch.setenv("POWERTOOLS_METRICS_DISABLED", "true")
    for name in ("put_item", "transact_write_items"):
        monkeypatch.setattr(DynamoDBBackend, name, guarded(getattr(DynamoDBBackend, name)))


@pytest.fixture
def workflow(monkeypatch, one_write_at_a_time):
    """A stack that runs; once it is at rest the oracle has the last word."""
    config = {"stepfunctions": {"execute_state_machine": True}, "lambda": {"use_docker": False}}
    with moto_stack(monkeypatch, **config) as stack:
        found = Workflow(stack)

        def invoke(self, function_name, qualifier, body, headers, response_headers):
            return found.invoke(function_name, body, response_headers)

        monkeypatch.setattr(LambdaSimpleBackend, "invoke", invoke)
        yield found
        found.settle()
        assert check(stack.app) == []
