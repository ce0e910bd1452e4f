"""Fits one candidate on the past: everything before the blocks that it will be judged on."""

from __future__ import annotations

from typing import Any

from refit import trial
from refit.aws import inputs, messages, versions
from refit.aws.runtime import App, entrypoint, logger
from refit.errors import BadMessage
from refit.models import get_model
from refit.training import split


@entrypoint
def handler(event: Any, app: App) -> dict[str, Any]:
    message = messages.run_message(event)
    candidate = event.get("candidate")
    logger.append_keys(model=message.model, run_id=message.run_id)
    spec = get_model(app.models, message.model)
    if candidate not in spec.training.candidates:
        raise BadMessage(
            f"candidate {str(candidate)[:40]!r} is not declared; training.candidates in model.toml is"
        )
    frozen = inputs.read(app.store, message.inputs_key)
    data = inputs.dataset(app.store, frozen, spec)
    blocks = split(data, spec, len(frozen.candidates))
    version = versions.record(
        app,
        spec,
        trial.train(candidate, data, blocks, spec, None),
        version=versions.name_of(message.run_id, candidate),
        run_id=message.run_id,
        inputs_key=message.inputs_key,
    )
    return {"candidate": candidate, "version": version.version}
