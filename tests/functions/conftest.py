import json
import logging
import shutil
from io import StringIO

import pytest
from moto_stack import MODELS, moto_stack

from refit.aws import runtime
from refit.aws.runtime import app_of
from refit.aws.settings import Settings


@pytest.fixture
def stack(monkeypatch):
    """An empty stack; executions are started and stay running."""
    with moto_stack(monkeypatch) as found:
        yield found


@pytest.fixture
def configure(stack, monkeypatch):
    """Gives functions other settings."""

    def change(**variables):
        for name, value in variables.items():
            monkeypatch.setenv(f"REFIT_{name.upper()}", str(value))
        stack.app = app_of(Settings.from_env())

    return change


@pytest.fixture
def declare(configure, tmp_path):
    """Deploys the models anew, one of them with these triggers, or under another name."""
    deployed = []

    def change(model="flights", copy_of="", **triggers):
        folder = tmp_path / f"models-{len(deployed)}"
        shutil.copytree(deployed[-1] if deployed else MODELS, folder)
        deployed.append(folder)
        if copy_of:
            shutil.copytree(folder / copy_of, folder / model)
        lines = "".join(f"{name} = {json.dumps(value)}\n" for name, value in triggers.items())
        path = folder / model / "model.toml"
        path.write_text(path.read_text().replace("[triggers]\n", f"[triggers]\n{lines}"))
        configure(models_dir=folder)

    return change


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
