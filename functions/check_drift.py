"""Compares an accepted batch with what the champion learned from. Reads profiles, never rows; then knocks."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from refit.aws import keys, messages
from refit.aws.bus import Event
from refit.aws.runtime import App, entrypoint, logger, metrics, refusing
from refit.drift import DriftReport, compare, summary
from refit.models import ModelSpec, get_model
from refit.profile import Profile, from_json


@entrypoint
@refusing
def handler(event: Any, app: App) -> dict[str, Any]:
    model, batch = messages.accepted_batch(event, app.settings.store_bucket)
    logger.append_keys(model=model, batch_id=batch)
    spec = get_model(app.models, model)
    profile = from_json(app.store.get_json(keys.profile(model, batch)))
    champion = app.registry.champion(model)
    version = champion.version if champion else ""
    report = against(version, profile, spec, app)
    if report:
        app.store.put_json_once(keys.drift(model, batch, version), asdict(report))
        app.registry.add_drift(model, batch, version, summary(report))
    drifted = [column.message for column in report.drifted] if report else []
    found = {
        "model": model,
        "batch_id": batch,
        "version": version,
        "rows": profile.rows,
        "period": profile.period,
        "drifted": drifted[:20],
        "n_drifted": len(drifted),
    }
    if drifted:
        app.bus.publish(Event.DRIFT_FOUND, found)
    app.bus.publish(Event.DRIFT_CHECKED, found)
    metrics.add_metric("ColumnsDrifted", "Count", len(drifted))
    return {"model": model, "batch_id": batch, "version": version, "drifted": drifted}


def against(version: str, profile: Profile, spec: ModelSpec, app: App) -> DriftReport | None:
    """Drift from what `version` learned from; None when there is nothing to compare with."""
    found = app.registry.version(spec.name, version) if version else None
    if (
        found is None or not found.inputs_key
    ):  # no champion, or an imported one: what it learned from is unknown
        return None
    reference = from_json(app.store.get_json(keys.reference(spec.name, version)))
    columns = [column.name for column in spec.contract.features]
    return compare(reference, profile, [*columns, spec.contract.target], psi_limit=spec.triggers.drift_psi)
