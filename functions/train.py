"""Fits one candidate on the past: everything before the blocks that it will be judged on."""

from __future__ import annotations

from typing import Any

from refit import trial
from refit.aws import inputs, messages, serving, training_data, versions
from refit.aws.runtime import App, entrypoint, logger
from refit.errors import BadMessage
from refit.models import CONTINUED, get_model
from refit.training import split


@entrypoint
def handler(event: Any, app: App) -> dict[str, Any]:
    message = messages.run_message(event)
    candidate = event.get("candidate")
    logger.append_keys(model=message.model, run_id=message.run_id)
    spec = get_model(app.models, message.model)
    frozen = inputs.read(app.store, message.inputs_key)
    if candidate not in frozen.candidates:
        raise BadMessage(
            f"candidate {str(candidate)[:40]!r} is not among those of the run: {', '.join(frozen.candidates)}"
        )
    champion = serving.compared(app, message.model, frozen.champion)
    learned = serving.fingerprints(app.store, champion)
    data = training_data.dataset(app.store, frozen, spec, learned)
    of_run = frozen.declared(spec)
    blocks = split(data, of_run, len(frozen.candidates))
    base = serving.fitted(app.store, champion) if champion and candidate in CONTINUED else None
    version = versions.record(
        app,
        spec,
        trial.train(candidate, data, blocks, of_run, base),
        version=versions.name_of(message.run_id, candidate),
        run_id=message.run_id,
        inputs_key=message.inputs_key,
    )
    return {"candidate": candidate, "version": version.version}
