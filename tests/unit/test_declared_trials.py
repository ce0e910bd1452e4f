"""[training], [gates] and [decision]: what is declared, and what makes no sense and is refused at load."""

from pathlib import Path

import pytest

from refit.errors import ConfigError
from refit.metrics import METRICS, Task
from refit.models import Search, load_model

GOOD = """
task = "binary"
target = "left"
time = "at"
[columns]
at = { type = "timestamp" }
left = { type = "boolean" }
age = { type = "integer" }
city = { type = "category" }
worth = { type = "number", min = 0 }
[triggers]
every = "30 days"
[training]
candidates = ["full"]
[gates]
metric = "roc_auc"
"""


def folder(tmp_path: Path, text: str, code: str = "") -> Path:
    path = tmp_path / "churn"
    path.mkdir(parents=True)
    (path / "model.toml").write_text(text)
    if code:
        (path / "model.py").write_text(code)
    return path


def mistakes(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_model(folder(tmp_path, text))
    return str(caught.value).splitlines()


def with_training(*lines: str) -> str:
    return GOOD.replace('candidates = ["full"]', "\n".join(lines))


def with_triggers(*lines: str) -> str:
    return GOOD.replace("[triggers]", "\n".join(["[triggers]", *lines]))


def with_rule(rule: str) -> str:
    return GOOD.replace('"integer"', f'"integer", {rule}')


def with_gates(*lines: str, metric="roc_auc") -> str:
    return GOOD.replace('metric = "roc_auc"', "\n".join([f'metric = "{metric}"', *lines]))


def test_all_that_can_be_declared_of_a_trial(tmp_path):
    text = with_training(
        'candidates = ["full", "search", "transfer"]', 'weights = "worth"', 'half_life = "90 days"'
    ).replace(
        'metric = "roc_auc"',
        """metric = "f1"
refresh_margin = 0.005
max_calibration_error = 0.1
max_megabytes = 20
max_latency_ms = 50.0
[gates.slices]
columns = ["city"]
margin = 0.02
[training.search]
iterations = 4
space = { max_leaf_nodes = [15, 31], learning_rate = { min = 0.01, max = 0.3, log = true } }
[decision]
threshold = "tuned"
""",
    )
    spec = load_model(folder(tmp_path, text))
    assert (spec.training.weights, spec.training.half_life, spec.threshold) == ("worth", "90 days", "tuned")
    assert spec.training.search == Search(
        4, {"max_leaf_nodes": [15, 31], "learning_rate": {"min": 0.01, "max": 0.3, "log": True}}
    )
    assert (spec.gates.slices, spec.gates.slice_margin, spec.gates.refresh_margin) == (("city",), 0.02, 0.005)
    assert [feature.name for feature in spec.contract.features] == ["age", "city"]  # the weight is none


def test_weights_change_nothing_of_what_is_taken_in(tmp_path):
    """Batches are named after the contract: they must not be other batches because rows count differently."""
    plain = load_model(folder(tmp_path / "a", GOOD))
    weighted = load_model(folder(tmp_path / "b", with_training('weights = "worth"')))
    assert plain.contract.digest == weighted.contract.digest
    assert plain.digest != weighted.digest


@pytest.mark.parametrize(
    ("text", "key", "says"),
    [
        (
            with_training('candidates = ["continual"]'),
            "training.candidates",
            "needs an estimator with partial_fit",
        ),
        (with_training('weights = "wrth"'), "training.weights", "'wrth' is not declared"),
        (with_training('weights = "city"'), "training.weights", "is a category; weights are numbers"),
        (with_training('weights = "left"'), "training.weights", "is target, time or key"),
        (with_training('half_life = "soon"'), "training.half_life", 'such as "90 days"'),
        (
            with_training('half_life = "9 days"').replace('time = "at"', ""),
            "training.half_life",
            "name the timestamp",
        ),
        (with_training("seed = -1"), "training.seed", "from 0 to"),
        (with_training('candidates = ["search"]'), "training.search", "missing; such as"),
        (
            GOOD + "[training.search]\niterations = 3\nspace = { a = [1] }",
            "training.search",
            "is not declared",
        ),
        (
            with_training('candidates = ["search"]')
            + "[training.search]\niterations = 0\nspace = { a = [1] }",
            "training.search.iterations",
            "from 1 to 500",
        ),
        (
            with_training('candidates = ["search"]') + "[training.search]\niterations = 1\nspace = {}",
            "training.search.space",
            "at least one parameter",
        ),
        (
            with_training('candidates = ["search"]')
            + "[training.search]\niterations = 1\nspace = { a = { min = 0, max = 1, log = true } }",
            "training.search.space.a",
            "begin above 0",
        ),
        (
            with_training('candidates = ["search"]')
            + "[training.search]\niterations = 1\nspace = { a = { min = 2, max = 1 } }",
            "training.search.space.a",
            "a min below its max",
        ),
        (with_gates("margin = 1.0"), "gates.margin", "1 cannot be gained: roc_auc goes from 0 to 1"),
        (
            with_gates("min_score = 0.9", "margin = 0.1"),
            "gates.margin",
            "who has min_score has 0.1 to gain",
        ),
        (with_gates("min_score = 0.1", metric="neg_log_loss"), "gates.min_score", "goes from -inf to 0"),
        (with_gates("min_score = nan"), "gates.min_score", "must be finite"),
        (with_gates("min_score = -3"), "gates.min_score", "-3 keeps nobody out: roc_auc goes from 0 to 1"),
        (with_gates("refresh_margin = 1"), "gates.refresh_margin", "1 allows any loss"),
        (with_gates("[gates.slices]", "margin = 5"), "gates.slices.margin", "5 allows any loss"),
        (
            with_gates("[gates.slices]", 'columns = ["city", "city"]'),
            "gates.slices.columns",
            "each feature once",
        ),
        (with_gates("max_calibration_error = 1"), "gates.max_calibration_error", "everything would pass"),
        (with_triggers("budget_usd = 0.0001"), "triggers.budget_usd", "pays for no run"),
        (with_triggers("budget_usd = inf"), "triggers.budget_usd", "must be finite"),
        (with_triggers("growth = nan"), "triggers.growth", "must be finite"),
        (with_rule("min = nan"), "columns.age.min", "must be finite"),
        (with_rule("max_categories = 0"), "columns.age.max_categories", "at least 1"),
        (with_gates("margin = inf"), "gates.margin", "must be finite"),
        (with_gates("confidence = 1.0"), "gates.confidence", "below 1"),
        (with_gates("refresh_margin = -0.01"), "gates.refresh_margin", "not be negative"),
        (with_gates("[gates.slices]", 'columns = ["citty"]'), "gates.slices.columns", "did you mean 'city'?"),
        (with_gates("[gates.slices]", 'columns = ["at"]'), "gates.slices.columns", "'at' is no feature"),
        (with_gates("[gates.slices]", "margin = -0.1"), "gates.slices.margin", "not be negative"),
        (with_gates("max_megabytes = 0"), "gates.max_megabytes", "nothing could pass"),
        (with_gates("max_latency_ms = -1"), "gates.max_latency_ms", "nothing could pass"),
        (with_gates(metric="rocauc"), "gates.metric", "did you mean 'roc_auc'?"),
        (
            GOOD + '[decision]\nthreshold = "tuned"',
            "decision.threshold",
            "roc_auc does not depend on it; tune it for one",
        ),
        (GOOD + "[decision]\nthreshold = 1.5", "decision.threshold", "between 0 and 1"),
        (GOOD + '[decision]\nthreshold = "best"', "decision.threshold", 'a probability or "tuned"'),
        (
            GOOD.replace('"binary"', '"regression"').replace('"left"', '"age"').replace("roc_auc", "r2")
            + "[decision]\nthreshold = 0.5",
            "decision.threshold",
            "is for a binary task",
        ),
        (
            GOOD.replace('"binary"', '"regression"')
            .replace('"left"', '"age"')
            .replace('metric = "roc_auc"', 'metric = "r2"\nmax_calibration_error = 0.1'),
            "gates.max_calibration_error",
            "a regression has none",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_key(tmp_path, text, key, says):
    found = mistakes(tmp_path, text)
    assert any(f"model.toml: {key}: " in line and says in line for line in found), found


def test_every_task_has_its_metrics():
    for task in Task:
        assert sum(task in metric.tasks for metric in METRICS.values()) >= 7
