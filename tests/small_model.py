"""A binary model of three columns beside its time, that is trained in a blink."""

from refit.contract import Column, ColumnType, Contract
from refit.metrics import Task
from refit.models import Gates, ModelSpec, Training, Triggers

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
