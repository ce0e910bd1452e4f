"""Refits the proved challenger on everything, the test block included; the child is what gets promoted."""

from __future__ import annotations

from typing import Any

import numpy as np

from refit.aws import inputs, keys, messages, versions
from refit.aws.runtime import App, entrypoint, logger
from refit.models import get_model
from refit.profile import to_json
from refit.training import candidate_rows, fit


@entrypoint
def handler(event: Any, app: App) -> dict[str, Any]:
    message = messages.run_message(event)
    logger.append_keys(model=message.model, run_id=message.run_id)
    spec = get_model(app.models, message.model)
    proved = event["evaluation"]
    frozen = inputs.read(app.store, message.inputs_key)
    data = inputs.dataset(app.store, frozen, spec)
    rows = candidate_rows(proved["candidate"], np.arange(len(data.labels)), spec)
    name = versions.name_of(message.run_id)
    app.store.put_json_once(keys.reference(message.model, name), to_json(inputs.reference(app.store, frozen)))
    version = versions.record(
        app,
        spec,
        fit(data, rows, spec),
        data.classes,
        version=name,
        candidate=proved["candidate"],
        parent=proved["challenger"],
        run_id=message.run_id,
        inputs_key=message.inputs_key,
        trained_rows=len(rows),
        tested_score=proved["challenger_score"],
        tested_low=proved["challenger_low"],
        tested_rows=proved["test_rows"],
    )
    return {"version": version.version, "approval_seconds": spec.approval_seconds}
