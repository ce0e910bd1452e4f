"""Writes the page of a run and the document behind it. Derived from what is recorded: it may be written again, and decides nothing."""

from __future__ import annotations

from typing import Any

from refit.aws import messages, reports
from refit.aws.runtime import App, entrypoint, logger
from refit.models import get_model


@entrypoint
def handler(event: Any, app: App) -> dict[str, Any]:
    message = messages.run_message(event)
    logger.append_keys(model=message.model, run_id=message.run_id)
    spec = get_model(app.models, message.model)
    # A run that is still running when its version is made waits for a person, or else goes on at once.
    asked = bool(event.get("final", {}).get("approval_seconds"))
    key = reports.write(app, spec, message.run_id, asked)
    logger.info("report written", extra={"key": key})
    return {"report_key": key}
