"""Chooses a challenger on the selection block and tests it once against the champion on the newest block."""

from __future__ import annotations

import time
from dataclasses import asdict
from functools import cache
from typing import Any

import numpy as np

from refit import learning
from refit.aws import inputs, keys, messages, serving
from refit.aws.runtime import App, entrypoint, logger
from refit.errors import ChampionMoved, TrainingError
from refit.evaluation import choose, evaluate, trivial_predictions
from refit.metrics import METRICS, score
from refit.models import ModelSpec, get_model
from refit.profile import to_json
from refit.records import Version
from refit.training import (
    Blocks,
    Dataset,
    candidate_rows,
    fit,
    frame_of_shard,
    predict,
    prediction_profile,
    split,
)


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
    trained = {each["candidate"]: each["version"] for each in event["trained"] if "version" in each}
    if not trained:
        failures = "; ".join(
            f"{each['candidate']}: {messages.caught(each['error'])[1][:200]}" for each in event["trained"]
        )
        raise TrainingError(f"no candidate could be trained: {failures}")

    @cache
    def loaded(version: str) -> tuple[Version, Any]:
        found = app.registry.recorded(message.model, version)
        return found, serving.load_version(app.store, found)

    def predictions(version: str, index: np.ndarray) -> np.ndarray:
        found, estimator = loaded(version)
        needs = METRICS[spec.gates.metric].needs
        # In the columns that this version knows: an imported champion, or one from before the contract
        # changed, knows others than the challenger.
        frame = frame_of_shard(data.rows.take(index), found.features)
        return predict(estimator, frame, spec.task, needs, found.classes, data.classes)

    selection = {}
    if len(trained) > 1:
        truth = data.labels[blocks.selection]
        for name, version in trained.items():
            selection[name] = score(
                spec.gates.metric, truth, predictions(version, blocks.selection), len(data.classes)
            )
        chosen = choose(selection, spec.training.candidates) or next(iter(trained))
    else:
        chosen = next(iter(trained))

    # What check_quality compares the predictions of later batches with.
    tested, estimator = loaded(trained[chosen])
    frame = frame_of_shard(data.rows.take(blocks.test), tested.features)
    shown = prediction_profile(estimator, frame, spec.task, tested.classes)
    app.store.put_json_once(keys.predictions(message.model, tested.version), to_json(shown))

    predicted = predictions(trained[chosen], blocks.test)
    verdict = evaluate(
        data.labels[blocks.test],
        predicted,
        predictions(champion.version, blocks.test) if champion else None,
        _baseline(data, blocks.train, len(blocks.test), spec),
        spec.task,
        spec.gates,
        n_classes=len(data.classes),
        seed=spec.training.seed,
    )
    key = keys.evaluation(message.model, message.run_id)
    finite = {name: value for name, value in selection.items() if np.isfinite(value)}
    blocks_of = {name: len(getattr(blocks, name)) for name in ("train", "selection", "test")}
    document = {
        **asdict(verdict),
        "chosen": chosen,
        "selection": finite,
        "rows": blocks_of,
        "learning_curve": _learning_curve(chosen, predicted, data, blocks, spec),
    }
    app.store.put_json_once(key, {**document, "trained": event["trained"], "champion": frozen.champion})
    logger.info("evaluated", extra={"promote": verdict.promote, "chosen": chosen})
    return {
        "promote": verdict.promote,
        "reason": verdict.reason[:1000],
        "candidate": chosen,
        "challenger": trained[chosen],
        "challenger_score": verdict.challenger_score,
        "challenger_low": verdict.challenger_low,
        "champion_score": verdict.champion_score,
        "test_rows": verdict.test_rows,
        "generation": frozen.generation,
        "evaluation_key": key,
    }


def _baseline(data: Dataset, train: np.ndarray, n: int, spec: ModelSpec) -> np.ndarray:
    needs = METRICS[spec.gates.metric].needs
    return trivial_predictions(data.labels[train], n, spec.task, needs, len(data.classes))


def _learning_curve(
    chosen: str, predicted: np.ndarray, data: Dataset, blocks: Blocks, spec: ModelSpec
) -> dict[str, Any]:
    def learned_from(rows: np.ndarray) -> np.ndarray:
        estimator = fit(data, rows, spec)
        own = tuple(data.classes[code] for code in estimator.classes_) if data.classes else ()
        needs = METRICS[spec.gates.metric].needs
        return predict(estimator, data.frame(blocks.test), spec.task, needs, own, data.classes)

    return asdict(
        learning.curve(
            learned_from,
            candidate_rows(chosen, blocks.train, spec),
            predicted,
            data.labels[blocks.test],
            spec,
            len(data.classes),
            clock=time.monotonic,
        )
    )
