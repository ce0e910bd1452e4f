"""From shards to a fitted estimator: labels, blocks of time, candidates, predictions."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from small_model import KINDS, SPEC

from refit.contract import ColumnType
from refit.errors import ConfigError, NotEnoughData, TrainingError
from refit.metrics import Task
from refit.models import ModelSpec
from refit.shard import NAT, Shard
from refit.training import (
    Dataset,
    assemble,
    build,
    class_name,
    encode_labels,
    fit,
    frame_of_records,
    frame_of_shard,
    likeliest,
    predict,
    split,
)

WORDS = ["a", "b"]


def shard(at, y, x=None, c=None) -> Shard:
    n = len(at)
    columns = {
        "at": np.array(at, np.int64),
        "x": np.arange(n, dtype=float) if x is None else np.array(x, float),
        "c": np.zeros(n, np.int32) if c is None else np.array(c, np.int32),
        "y": np.array(y, float),
    }
    return Shard(columns, {name: ColumnType(kind) for name, kind in KINDS.items()}, {"c": WORDS})


def dataset(seen) -> Dataset:
    """Rows at the times 0, 1, 2, ... with alternating labels."""
    n = len(seen)
    joint = assemble([shard(range(n), np.arange(n) % 2)], [False], SPEC)
    return replace(joint, seen=np.array(seen, bool))


def training(**more) -> ModelSpec:
    return replace(SPEC, training=replace(SPEC.training, **more))


# --- data sets


def test_batches_are_joined_in_the_order_of_time_without_unlabelled_rows():
    late = shard([30, 10], [1, 0], x=[3, 1])
    early = shard([20, 0], [np.nan, 1], x=[2, 0])
    found = assemble([late, early], [True, False], SPEC)
    assert found.rows.columns["x"].tolist() == [0, 1, 3]
    assert found.labels.tolist() == [1, 0, 1]
    assert found.seen.tolist() == [False, True, True]
    assert found.classes == ("false", "true")
    assert [feature.name for feature in found.features] == ["x", "c"]


def test_rows_of_one_time_keep_the_order_they_came_in_and_unknown_times_come_first():
    found = assemble(
        [shard([5, 5, NAT], [0, 1, 0], x=[1, 2, 0]), shard([5], [1], x=[3])], [True, False], SPEC
    )
    assert found.rows.columns["x"].tolist() == [0, 1, 2, 3]


def test_many_rows_of_one_day_keep_their_order():
    """Sorts of few elements are stable by accident; this many tell."""
    n = 2000
    found = assemble([shard(np.arange(n) % 2, np.arange(n) % 2)], [False], SPEC)
    assert found.rows.columns["x"].tolist() == [*range(0, n, 2), *range(1, n, 2)]


def test_without_a_time_column_the_order_of_batches_is_time():
    spec = replace(SPEC, contract=replace(SPEC.contract, time=None))
    found = assemble([shard([9], [0], x=[1]), shard([1], [1], x=[2])], [True, False], spec)
    assert found.rows.columns["x"].tolist() == [1, 2]


@pytest.mark.parametrize(
    ("kind", "values", "classes", "labels"),
    [
        ("boolean", [1, 0, 1], ("false", "true"), [1, 0, 1]),
        ("integer", [7, -1, 7], ("-1", "7"), [1, 0, 1]),
        ("integer", [1_000_001, 1_000_002], ("1000001", "1000002"), [0, 1]),
        ("number", [0.1234567, 0.1234568], ("0.1234567", "0.1234568"), [0, 1]),
    ],
)
def test_classes_are_named_as_people_write_them_and_kept_apart(kind, values, classes, labels):
    rows = Shard({"y": np.array(values, float)}, {"y": ColumnType(kind)})
    found, names = encode_labels(rows, "y", Task.MULTICLASS)
    assert (names, found.tolist()) == (classes, labels)


def test_only_categories_that_occur_are_classes_and_unknown_ones_are_minus_one():
    rows = Shard({"y": np.array([2, 0, 2], np.int32)}, {"y": ColumnType.CATEGORY}, {"y": ["a", "b", "c"]})
    labels, classes = encode_labels(rows, "y", Task.MULTICLASS)
    assert (labels.tolist(), classes) == ([1, 0, 1], ("a", "c"))
    labels, classes = encode_labels(rows, "y", Task.MULTICLASS, ("z", "c"))
    assert (labels.tolist(), classes) == ([1, -1, 1], ("z", "c"))


def test_a_regression_has_values_and_no_classes():
    rows = Shard({"y": np.array([1.5, -2])}, {"y": ColumnType.NUMBER})
    labels, classes = encode_labels(rows, "y", Task.REGRESSION)
    assert (labels.tolist(), classes) == ([1.5, -2.0], ())


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (True, "true"),
        (np.False_, "false"),
        (3.0, "3"),
        (np.int64(3), "3"),
        (0.5, "0.5"),
        ("setosa", "setosa"),
    ],
)
def test_class_names(value, name):
    assert class_name(value) == name


# --- blocks


def test_the_newest_rows_test_and_everything_before_is_learned_from():
    blocks = split(dataset([False] * 100), SPEC, candidates=1)
    assert blocks.test.tolist() == list(range(60, 100))
    assert blocks.selection.tolist() == []
    assert blocks.train.tolist() == list(range(60))


def test_several_candidates_are_chosen_between_on_the_rows_just_before():
    blocks = split(dataset([False] * 100), SPEC, candidates=2)
    assert blocks.selection.tolist() == list(range(40, 60))
    assert blocks.train.tolist() == list(range(40))


def test_only_rows_that_the_champion_has_not_seen_are_held_out():
    """100 known rows, then 50 new: 40 % of the 50 test, all others are learned from."""
    blocks = split(dataset([True] * 100 + [False] * 50), SPEC, candidates=1)
    assert blocks.test.tolist() == list(range(130, 150))
    assert blocks.train.tolist() == list(range(130))


def test_a_late_month_is_tested_on_itself_though_newer_rows_are_known():
    """Rows 30 to 79 arrive late among known ones: the newest 20 of them test, the newer known ones teach."""
    seen = [True] * 30 + [False] * 50 + [True] * 40
    blocks = split(dataset(seen), SPEC, candidates=1)
    assert blocks.test.tolist() == list(range(60, 80))
    assert blocks.train.tolist() == [*range(60), *range(80, 120)]


def test_blocks_share_no_row_and_lose_none():
    rng = np.random.default_rng(0)
    seen = rng.random(500) < 0.3
    blocks = split(dataset(seen), SPEC, candidates=2)
    together = np.concatenate([blocks.train, blocks.selection, blocks.test])
    assert sorted(together.tolist()) == list(range(500))
    assert not seen[blocks.test].any()
    assert not seen[blocks.selection].any()
    assert blocks.selection.max() < blocks.test.min()


def test_too_few_new_rows_are_told_with_what_there_is_and_what_is_needed():
    with pytest.raises(NotEnoughData) as caught:
        split(dataset([True] * 100 + [False] * 49), SPEC, candidates=1)
    assert str(caught.value) == (
        "49 labelled rows are new to the champion; with test_share 0.4 they give 19 test rows, "
        "gates.min_test_rows asks for 20; add data or lower it"
    )


def test_too_few_rows_to_choose_on_are_told_as_that():
    with pytest.raises(NotEnoughData, match=r"selection_share 0.1 they give 9 rows .* 10, are needed"):
        split(dataset([False] * 99), training(selection_share=0.1), candidates=2)
    split(dataset([False] * 99), training(selection_share=0.1), candidates=1)


def test_too_few_rows_to_learn_from_are_told():
    with pytest.raises(NotEnoughData, match="only 10 rows are left to learn from; at least 20"):
        split(dataset([False] * 100), training(test_share=0.9), candidates=1)


# --- fitting


def learnable(n: int = 200) -> Dataset:
    rng = np.random.default_rng(0)
    x, c = rng.normal(size=n), rng.integers(-1, 2, n)
    x[::10] = np.nan
    return assemble([shard(range(n), (np.nan_to_num(x) + (c == 1) > 0.3), x, c)], [False], SPEC)


def test_the_default_estimator_learns_with_nulls_and_categories_and_again_the_same():
    data = learnable()
    index = np.arange(150)
    first, second = fit(data, index, SPEC), fit(data, index, SPEC)
    rest = data.frame(np.arange(150, 200))
    assert (first.predict(rest) == data.labels[150:]).mean() > 0.8
    np.testing.assert_array_equal(first.predict_proba(rest), second.predict_proba(rest))


def test_a_category_that_training_never_saw_and_nulls_can_be_predicted():
    model = fit(learnable(), np.arange(200), SPEC)
    features = [{"name": "x", "type": "number"}, {"name": "c", "type": "category"}]
    frame = frame_of_records([{"x": 1, "c": "new"}, {}, {"x": "2.5", "c": "a", "more": 1}], features)
    assert np.isfinite(model.predict_proba(frame)).all()


def test_one_label_alone_is_not_enough_to_learn():
    data = dataset([False] * 50)
    with pytest.raises(NotEnoughData, match="all 25 training rows have the same label"):
        fit(data, np.arange(0, 50, 2), SPEC)


def test_three_classes_are_no_binary_task():
    data = replace(dataset([False] * 50), classes=("a", "b", "c"))
    with pytest.raises(TrainingError, match="'y' has 3 classes; use multiclass"):
        fit(data, np.arange(50), SPEC)


def test_what_the_estimator_says_when_it_fails_is_passed_on():
    with pytest.raises(TrainingError, match=r"Pipeline.fit failed: InvalidParameterError: .*max_iter"):
        fit(learnable(), np.arange(50), replace(SPEC, estimator={"max_iter": -1}))


def test_a_parameter_that_the_estimator_does_not_have_names_file_key_and_fix():
    with pytest.raises(ConfigError, match=r"models/m/model.toml: estimator.max_itre: .* 'max_iter'"):
        build(replace(SPEC, estimator={"max_itre": 1}))


def own(tmp_path: Path, body: str) -> ModelSpec:
    path = tmp_path / "model.py"
    path.write_text(f"def build():\n    {body}\n")
    return replace(SPEC, code=str(path))


def test_an_own_estimator_is_seeded_where_it_left_the_seed_open(tmp_path):
    imports = "from sklearn.linear_model import LogisticRegression as L, SGDClassifier as S; "
    assert build(own(tmp_path, imports + "return L()")).random_state == 3
    assert build(own(tmp_path, imports + "return L(random_state=8)")).random_state == 8


@pytest.mark.parametrize("name", ["RandomForestClassifier", "BaggingClassifier", "AdaBoostClassifier"])
def test_an_ensemble_may_be_the_own_estimator(tmp_path, name):
    """Its length is that of its fitted members: asked whether it is true, an unfitted one raises AttributeError."""
    made = build(own(tmp_path, f"from sklearn.ensemble import {name}; return {name}(n_estimators=2)"))
    assert (type(made).__name__, made.n_estimators, made.random_state) == (name, 2, 3)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("return 7", "returned int, not an estimator"),
        ("raise ValueError('no')", r"build\(\) failed: ValueError: no"),
        ("from sklearn.svm import LinearSVC; return LinearSVC()", "a classifier with predict_proba"),
    ],
)
def test_an_own_estimator_that_cannot_serve_is_a_config_error(tmp_path, body, says):
    with pytest.raises(ConfigError, match=says):
        build(own(tmp_path, body))


# --- predictions


class Fixed:
    """Gives the probabilities it was made with."""

    def __init__(self, proba, classes):
        self.proba, self.classes_ = np.array(proba), np.array(classes)

    def predict_proba(self, frame):
        return self.proba[: len(frame)]

    def predict(self, frame):
        return self.classes_[self.predict_proba(frame).argmax(axis=1)]


FRAME = pd.DataFrame({"x": [0.0, 1.0]})
MODEL = Fixed([[0.7, 0.3], [0.2, 0.8]], [0, 1])


def test_a_binary_task_is_told_the_probability_of_the_second_class_of_the_data():
    found = predict(MODEL, FRAME, Task.BINARY, "proba", ("no", "yes"), ("no", "yes"))
    assert found.tolist() == [0.3, 0.8]
    swapped = predict(MODEL, FRAME, Task.BINARY, "proba", ("yes", "no"), ("no", "yes"))
    assert swapped.tolist() == [0.7, 0.2]


def test_a_class_that_the_model_does_not_know_has_no_probability_and_one_gone_from_the_data_is_dropped():
    found = predict(MODEL, FRAME, Task.MULTICLASS, "proba", ("a", "gone"), ("a", "b", "c"))
    assert found.tolist() == [[0.7, 0, 0], [0.2, 0, 0]]


def test_labels_are_told_in_the_classes_of_the_data():
    assert predict(MODEL, FRAME, Task.MULTICLASS, "label", ("a", "b"), ("z", "b", "a")).tolist() == [2, 1]
    assert predict(MODEL, FRAME, Task.MULTICLASS, "label", ("a", "gone"), ("a", "b")).tolist() == [0, -1]


def test_a_frame_from_a_shard_has_the_columns_of_the_model_in_its_order():
    features = [{"name": name, "type": kind} for name, kind in {"c": "category", "new": "number"}.items()]
    frame = frame_of_shard(shard([1], [0], c=[1]), features)
    assert list(frame.columns) == ["c", "new"]
    assert frame["c"].tolist() == ["b"]
    assert frame["new"].isna().all()


def test_records_become_what_a_shard_of_the_same_values_would_be():
    features = [
        {"name": "x", "type": "number"},
        {"name": "b", "type": "boolean"},
        {"name": "c", "type": "category"},
    ]
    records = [
        {"x": "2.5", "b": True, "c": "ulm"},
        {"x": 1, "c": 7},
        {"b": False, "c": True},
        {"c": float("nan")},
    ]
    frame = frame_of_records(records, features)
    np.testing.assert_array_equal(frame["x"], [2.5, 1, np.nan, np.nan])
    np.testing.assert_array_equal(frame["b"], [1, np.nan, 0, np.nan])
    assert frame["c"].astype(object).where(frame["c"].notna(), None).tolist() == ["ulm", "7", "true", None]
    assert frame["c"].cat.categories.dtype == object


@pytest.mark.parametrize("value", ["abc", None, [1], {"a": 1}, 10**400])
def test_a_value_that_is_no_number_is_missing_not_an_error(value):
    assert frame_of_records([{"x": value}], [{"name": "x", "type": "number"}])["x"].isna().all()


class Torn:
    """Like an SVM, whose `predict` may name another class than its probabilities do."""

    classes_ = np.array([0, 1])

    def __init__(self, yes):
        self.yes = np.array(yes)

    def predict(self, frame):
        return np.zeros(len(frame), dtype=int)

    def predict_proba(self, frame):
        return np.column_stack([1 - self.yes, self.yes])


@pytest.mark.parametrize(("threshold", "said"), [(None, [0, 1, 1]), (0.7, [0, 0, 1])])
def test_what_is_tested_is_the_class_that_is_served(threshold, said):
    """The function `predict` says the likeliest class, so that is what a metric of labels is of."""
    frame, names = pd.DataFrame({"x": [1.0, 2.0, 3.0]}), ("no", "yes")
    found = predict(Torn([0.4, 0.6, 0.8]), frame, Task.BINARY, "label", names, names, threshold)
    assert found.tolist() == said == likeliest(Torn([0.4, 0.6, 0.8]).predict_proba(frame), threshold).tolist()


def test_of_probabilities_that_are_not_finite_no_class_is_the_likeliest():
    frame, names = pd.DataFrame({"x": [1.0, 2.0]}), ("no", "yes")
    with pytest.raises(TrainingError, match="probabilities that are not finite"):
        predict(Torn([0.4, np.nan]), frame, Task.BINARY, "label", names, names)
