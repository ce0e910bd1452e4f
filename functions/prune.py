"""Deletes once a day what the models no longer keep; by default they keep everything."""

from __future__ import annotations

from typing import Any

from refit.aws import messages, pruning
from refit.aws.runtime import App, entrypoint, logger, metrics


@entrypoint
def handler(event: Any, app: App) -> dict[str, Any]:
    now = messages.clock(event)
    pruned: dict[str, dict[str, int]] = {}
    failed: list[Exception] = []
    for spec in app.models.values():
        logger.append_keys(model=spec.name)
        try:
            pruned[spec.name] = pruning.prune(app, spec, now)
        except Exception as error:  # the other models have their turn first  # noqa: BLE001
            logger.error("could not be pruned", extra={"error": type(error).__name__})
            failed.append(error)
    logger.remove_keys(["model"])
    shared = pruning.prune_shared(app, now)
    objects = sum(each["objects"] for each in pruned.values())
    metrics.add_metric("ObjectsPruned", "Count", objects)
    logger.info("pruned", extra={"models": pruned, "shared_records": shared})
    if failed:
        raise failed[0]
    return {"models": pruned, "shared_records": shared}
