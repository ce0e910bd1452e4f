"""Fitting a model on made-up rows, so that a model.py that cannot be stored is known before it is deployed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np

from refit import artifact
from refit.candidates import applicable
from refit.contract import Column, ColumnType
from refit.errors import ArtifactError, ConfigError, TrainingError
from refit.metrics import Task
from refit.models import CONTINUED, ModelSpec
from refit.shard import Shard
from refit.training import Blocks, assemble
from refit.trial import refuse_unsupported, train

ROWS = 200
# Of a category that lists none; a single letter would be no word to a text vectorizer.
WORDS = ("one", "two", "three")


def rehearse_all(specs: Iterable[ModelSpec], passed: Callable[[ModelSpec], None] = lambda spec: None) -> None:
    """Rehearse each model, and tell of each that passed.

    Raises
    ------
    ConfigError
        With what is wrong with all that did not, one a line.
    """
    mistakes = []
    for spec in specs:
        try:
            rehearse(spec)
        except ConfigError as error:
            mistakes.append(str(error))
        else:
            passed(spec)
    if mistakes:
        raise ConfigError("\n".join(mistakes))


def rehearse(spec: ModelSpec) -> None:
    """Train, store and load each declared candidate on rows made up from the contract.

    Raises
    ------
    ConfigError
        When it cannot be fitted on such rows, does not support what is declared, or holds types that are not allowed.
    """
    rng = np.random.default_rng(0)
    columns: dict[str, np.ndarray] = {}
    types: dict[str, ColumnType] = {}
    words: dict[str, list[str]] = {}
    for column in spec.contract.columns:
        if column.type is not ColumnType.TEXT:
            types[column.name] = column.type
            columns[column.name] = _values(column, rng)
            if column.type is ColumnType.CATEGORY:
                words[column.name] = list(column.categories or WORDS)
    if spec.task is Task.BINARY and types[spec.contract.target] is not ColumnType.CATEGORY:
        columns[spec.contract.target] = np.arange(ROWS) % 2.0
    elif spec.task is not Task.REGRESSION:
        kinds = 2 if spec.task is Task.BINARY else len(words.get(spec.contract.target, WORDS))
        columns[spec.contract.target] = (np.arange(ROWS) % kinds).astype(columns[spec.contract.target].dtype)
    data = assemble([Shard(columns, types, words)], [False], spec)
    refuse_unsupported(spec)
    everything = np.arange(len(data.labels))
    blocks = Blocks(everything, everything, everything)
    champion = None
    try:
        for candidate in dict.fromkeys(("full", *applicable(_shortened(spec), ROWS, None), *CONTINUED)):
            if candidate == "full" or candidate in spec.training.candidates:
                model = train(candidate, data, blocks, _shortened(spec), champion)
                artifact.dump(model.estimator)
                champion = champion or replace(model, name="the first")
    except (ArtifactError, TrainingError) as error:
        where = spec.code or f"{spec.declared_in}: [estimator]"
        raise ConfigError(f"{where}: {error} (tried on {ROWS} made-up rows)") from None


def _shortened(spec: ModelSpec) -> ModelSpec:
    """A search of one draw: what it may set is known, what it would find is not."""
    search = spec.training.search and replace(spec.training.search, iterations=1)
    return replace(spec, training=replace(spec.training, search=search, recent_rows=ROWS // 2))


def _values(column: Column, rng: np.random.Generator) -> np.ndarray:
    if column.type is ColumnType.CATEGORY:
        return rng.integers(len(column.categories or WORDS), size=ROWS).astype(np.int32)
    if column.type is ColumnType.TIMESTAMP:
        return np.arange(ROWS) * 1_000_000_000
    if column.type is ColumnType.BOOLEAN:
        return rng.integers(2, size=ROWS).astype(float)
    low = column.min if column.min is not None else (column.max or 1) - 1
    high = column.max if column.max is not None else low + 1
    values = rng.uniform(low, high, ROWS)
    return np.round(values) if column.type is ColumnType.INTEGER else values
