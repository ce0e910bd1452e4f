"""Chooses a challenger on the selection block and tests it once against the champion on the newest block."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from refit import trial
from refit.aws import inputs, keys, messages, serving
from refit.aws.runtime import App, entrypoint, logger
from refit.errors import ChampionMoved, TrainingError
from refit.models import get_model
from refit.training import split


@entrypoint
def handler(event: Any, app: App) -> dict[str, Any]:
    message = messages.run_message(event)
    logger.append_keys(model=message.model, run_id=message.run_id)
    spec = get_model(app.models, message.model)
    frozen = inputs.read(app.store, message.inputs_key)
    champion = app.registry.champion(message.model)
    if (champion.generation if champion else 0) != frozen.generation:
        raise ChampionMoved(
            "the champion changed since the inputs were frozen; the next run compares with the new one"
        )

    data = inputs.dataset(app.store, frozen, spec)
    blocks = split(data, spec, len(frozen.candidates))
    versions = {each["candidate"]: each["version"] for each in event["trained"] if "version" in each}
    if not versions:
        failures = "; ".join(
            f"{each['candidate']}: {messages.caught(each['error'])[1][:200]}" for each in event["trained"]
        )
        raise TrainingError(f"no candidate could be trained: {failures}")

    def model(version: str) -> trial.Model:
        return serving.fitted(app.store, serving.recorded(app.registry, message.model, version))

    trained = {name: model(version) for name, version in versions.items()}
    found = trial.judge(data, blocks, trained, model(champion.version) if champion else None, spec)
    verdict = found.evaluation
    key = keys.evaluation(message.model, message.run_id)
    blocks_of = {name: len(getattr(blocks, name)) for name in ("train", "selection", "test")}
    document = {**asdict(verdict), "chosen": found.chosen, "selection": found.selection, "rows": blocks_of}
    app.store.put_json_once(key, {**document, "trained": event["trained"], "champion": frozen.champion})
    logger.info("evaluated", extra={"promote": verdict.promote, "chosen": found.chosen})
    return {
        "promote": verdict.promote,
        "reason": verdict.reason[:1000],
        "candidate": found.chosen,
        "challenger": versions[found.chosen],
        "challenger_score": verdict.challenger_score,
        "challenger_low": verdict.challenger_low,
        "champion_score": verdict.champion_score,
        "baseline_score": verdict.baseline_score,
        "test_rows": verdict.test_rows,
        "generation": frozen.generation,
        "evaluation_key": key,
    }
