"""A run's steps: candidates, training, judgement and the refit of what won."""

from dataclasses import replace

import numpy as np

from refit.contract import Column, ColumnType, Contract
from refit.metrics import Task
from refit.models import Gates, ModelSpec, Training, Triggers
from refit.shard import Shard
from refit.training import Blocks, Dataset, assemble
from refit.trial import applicable, train

KINDS = {"at": "timestamp", "x": "number", "c": "category", "y": "boolean"}
SPEC = ModelSpec(
    "m",
    Task.BINARY,
    Contract(tuple(Column(name, ColumnType(kind)) for name, kind in KINDS.items()), "y", time="at"),
    Triggers(),
    Gates("roc_auc", min_test_rows=20),
    Training(seed=3),
    {"max_iter": 5, "min_samples_leaf": 5},
)
NONE = np.array([], dtype=int)


def training(spec=SPEC, **more) -> ModelSpec:
    return replace(spec, training=replace(spec.training, **more))


def rows(n=200, seed=0, start=0, flipped=False) -> Shard:
    """y is whether x is above 0, with one label in ten turned around."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    columns = {
        "at": np.arange(start, start + n, dtype=np.int64),
        "x": x,
        "c": rng.integers(0, 2, n).astype(np.int32),
        "y": ((x > 0) ^ flipped ^ (rng.random(n) < 0.1)).astype(float),
    }
    return Shard(columns, {name: ColumnType(kind) for name, kind in KINDS.items()}, {"c": ["a", "b"]})


def data_of(*shards: Shard, seen=None, spec=SPEC) -> Dataset:
    return assemble(shards, seen or [False] * len(shards), spec)


def test_recent_is_dropped_where_it_would_be_the_same_as_all_history():
    spec = training(candidates=("full", "recent"), recent_rows=3)
    assert applicable(spec, 4, None) == ("full", "recent")
    assert applicable(spec, 3, None) == ("full",)
    assert applicable(training(candidates=("recent",), recent_rows=3), 3, None) == ("recent",)


def test_recent_learns_from_the_newest_rows_only():
    """The concept turns around after 150 of 200 rows."""
    data = data_of(rows(150), rows(50, seed=1, start=150, flipped=True))
    blocks = Blocks(np.arange(200), NONE, NONE)
    spec = training(candidates=("full", "recent"), recent_rows=50)
    full, recent = (train(name, data, blocks, spec, None) for name in spec.training.candidates)
    assert (full.trained_rows, recent.trained_rows) == (200, 50)
    newest = data.frame(np.arange(150, 200))
    hits = [(model.estimator.predict(newest) == data.labels[150:]).mean() for model in (full, recent)]
    assert hits[0] < 0.7 < 0.8 < hits[1]
