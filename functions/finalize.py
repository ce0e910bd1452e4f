"""Refits the proved challenger on everything, the test block included; the child is what gets promoted."""

from __future__ import annotations

from typing import Any

from refit import trial
from refit.aws import inputs, keys, messages, serving, training_data, versions
from refit.aws.runtime import App, entrypoint, logger
from refit.models import CONTINUED, get_model
from refit.profile import to_json


@entrypoint
def handler(event: Any, app: App) -> dict[str, Any]:
    message = messages.run_message(event)
    logger.append_keys(model=message.model, run_id=message.run_id)
    spec = get_model(app.models, message.model)
    proved = event["evaluation"]
    frozen = inputs.read(app.store, message.inputs_key)
    champion = serving.compared(app, message.model, frozen.champion)
    data = training_data.dataset(app.store, frozen, spec, serving.fingerprints(app.store, champion))
    name = versions.name_of(message.run_id)
    app.store.put_json_once(
        keys.reference(message.model, name), to_json(training_data.reference(app.store, frozen))
    )
    tested = serving.fitted(app.store, app.registry.recorded(message.model, proved["challenger"]))
    base = serving.fitted(app.store, champion) if champion and proved["candidate"] in CONTINUED else None
    version = versions.record(
        app,
        spec,
        trial.refit(proved["candidate"], data, frozen.declared(spec), base, tested),
        version=name,
        run_id=message.run_id,
        inputs_key=message.inputs_key,
        tested_score=proved["challenger_score"],
        tested_low=proved["challenger_low"],
        tested_rows=proved["test_rows"],
    )
    return {"version": version.version, "approval_seconds": spec.approval_seconds}
