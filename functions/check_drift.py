"""Compares an accepted batch with what the champion learned from, and with the same season a year ago where there
is one. Reads profiles, never rows; then knocks."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from refit.aws import keys, messages
from refit.aws.bus import Event
from refit.aws.runtime import App, entrypoint, logger, metrics, refusing
from refit.batches import effective
from refit.drift import DriftReport, check, is_season, same_season, summary
from refit.models import ModelSpec, get_model
from refit.profile import Profile, from_json, merge


@entrypoint
@refusing
def handler(event: Any, app: App) -> dict[str, Any]:
    model, batch = messages.accepted_batch(event, app.settings.store_bucket)
    logger.append_keys(model=model, batch_id=batch)
    spec = get_model(app.models, model)
    profile = from_json(app.store.get_json(keys.profile(model, batch)))
    champion = app.registry.champion(model)
    version = champion.version if champion else ""
    report = against(version, profile, batch, spec, app)
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


def against(version: str, profile: Profile, batch: str, spec: ModelSpec, app: App) -> DriftReport | None:
    """Drift from what `version` learned from, recorded; None when there is nothing to compare with."""
    found = app.registry.version(spec.name, version) if version else None
    if (
        found is None or not found.inputs_key
    ):  # no champion, or an imported one: what it learned from is unknown
        return None
    reference = from_json(app.store.get_json(keys.reference(spec.name, version)))
    report = check(spec, reference, profile, a_year_ago(profile, batch, spec.name, app))
    app.store.put_json_once(keys.drift(spec.name, batch, version), asdict(report))
    app.registry.add_drift(spec.name, batch, version, summary(report))
    return report


def a_year_ago(profile: Profile, batch: str, model: str, app: App) -> Profile | None:
    """The merged profile of the same season's batches; None where they are missing or too few."""
    if profile.period is None:
        return None
    found = same_season(effective(app.registry.uploads(model)), batch, profile.period)
    if not found:
        return None
    season = merge(from_json(app.store.get_json(keys.profile(model, each.batch_id))) for each in found)
    return season if is_season(season, profile) else None
