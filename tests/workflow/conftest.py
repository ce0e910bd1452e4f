import pytest
from moto.awslambda_simple.models import LambdaSimpleBackend
from moto_stack import moto_stack
from moto_workflow import Workflow

from refit_cli.oracle import check


@pytest.fixture
def workflow(monkeypatch):
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
