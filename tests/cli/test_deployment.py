"""Which stack the environment names, and what is said when it names none."""

import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from refit_cli.deployment import Deployment, NoStack


@pytest.fixture
def asked(monkeypatch) -> Iterator[list[str]]:
    """An address on this machine that refuses everything; how each request to it was signed."""
    signatures: list[str] = []

    class Refuses(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            signatures.append(self.headers["Authorization"])
            self.send_error(503)

        def log_message(self, *arguments: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Refuses)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    yield signatures
    server.shutdown()
    server.server_close()


def refusal() -> str:
    with pytest.raises(NoStack) as refused:
        Deployment.find(Path("models"))
    return str(refused.value)


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    """find() sets and removes variables; they are put back."""
    before = dict(os.environ)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_DEFAULT_REGION"):
        os.environ[name] = "testing"
    os.environ.pop("REFIT_STACK", None)
    yield
    os.environ.clear()
    os.environ.update(before)


def test_a_stack_on_this_machine_is_asked_once(asked):
    """The SDK's own tries keep a person waiting for ten seconds, to hear that nothing was started."""
    assert "is not AWS, nor a local stack; start one here" in refusal()
    assert len(asked) == 1


def test_a_stack_on_this_machine_is_asked_in_its_region_whatever_the_shell_says(asked, monkeypatch):
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    refusal()
    assert "/us-east-1/cloudformation/" in asked[0]


def test_an_address_without_its_scheme_is_refused_with_how_to_write_it(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "127.0.0.1:4566")
    assert "AWS_ENDPOINT_URL is '127.0.0.1:4566', which is no URL; such as http://" in refusal()


@pytest.mark.parametrize("region", ["", "us east"])
def test_a_region_that_is_none_is_refused_in_words(monkeypatch, region):
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    monkeypatch.setenv("AWS_DEFAULT_REGION", region)
    assert "no stack 'refit' at AWS (" in refusal() and "REFIT_STACK" in refusal()
