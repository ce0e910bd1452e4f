"""The canonical digest: the same for the same model, however it was stored, and another for any other."""

import copy
from functools import partial

import numpy as np
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import make_column_transformer
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    StackingClassifier,
)
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from refit import artifact
from refit.canonical import digest
from refit.errors import ArtifactError

ESTIMATORS = {
    "logistic": lambda seed: LogisticRegression(),
    "sgd": lambda seed: SGDClassifier(loss="log_loss", random_state=seed),
    "bayes": lambda seed: GaussianNB(),
    "mlp": lambda seed: MLPClassifier((4,), max_iter=5, random_state=seed),
    "histogram boosting": lambda seed: HistGradientBoostingClassifier(
        max_iter=5, categorical_features=[1], random_state=seed
    ),
    "boosting": lambda seed: GradientBoostingClassifier(n_estimators=5, random_state=seed),
    "forest": lambda seed: RandomForestClassifier(5, random_state=seed),
    "calibrated": lambda seed: CalibratedClassifierCV(LogisticRegression(), cv=2),
    "stacking": lambda seed: StackingClassifier([("b", GaussianNB())], LogisticRegression(), cv=2),
    "pipeline": lambda seed: make_pipeline(
        make_column_transformer((StandardScaler(), [0]), (OneHotEncoder(), [1])), LogisticRegression()
    ),
}


def fitted(name: str, seed: int = 0, shift: float = 0.0):
    rng = np.random.default_rng(0)
    X = np.stack([rng.normal(size=120) + shift, rng.integers(0, 3, 120)], axis=1)
    y = (X[:, 0] + X[:, 1] + rng.normal(size=120) > 1 + shift).astype(int)
    estimator = ESTIMATORS[name](seed)
    if name == "mlp":
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # five iterations do not converge
            return estimator.fit(X, y)
    return estimator.fit(X, y)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_model_has_one_digest_however_often_it_is_fitted_copied_or_stored(name):
    model = fitted(name)
    known = digest(model)
    assert digest(fitted(name)) == known
    assert digest(copy.deepcopy(model)) == known
    assert digest(artifact.load(*artifact.dump(model))) == known
    assert digest(fitted(name, shift=0.5)) != known


@pytest.mark.parametrize("name", ["sgd", "mlp", "forest"])
def test_another_seed_is_another_model(name):
    assert digest(fitted(name)) != digest(fitted(name, seed=1))


DIFFERENT = [
    None,
    False,
    0,
    0.0,
    -0.0,
    "0",
    b"0",
    "",
    [],
    (),
    {},
    [0],
    [[0]],
    ["a", "b"],
    ["ab"],
    {"a": 1},
    {"a": 2},
    {"b": 1},
    {1: "a"},
    np.float32(0),
    np.zeros(2),
    np.zeros((2, 1)),
    np.zeros(2, np.float32),
    np.array([0.0, -0.0]),
    np.array(["a", None], dtype=object),
    np.array([(0, 1.0)], dtype=[("a", "i4"), ("b", "f8")]),
    np.array([(0, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
    np.dtype("f8"),
    np.dtype("f4"),
    float,
    len,
    partial(len, 1),
    partial(len, 2),
    slice(1),
    slice(2),
    np.random.RandomState(0),
    np.random.RandomState(1),
    np.random.default_rng(0),
]


def test_what_differs_has_another_digest():
    found = [digest(value) for value in DIFFERENT]
    assert len(set(found)) == len(found)


def test_order_padding_and_identity_make_no_difference():
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest(np.asfortranarray(np.arange(6.0).reshape(2, 3))) == digest(np.arange(6.0).reshape(2, 3))
    assert digest(np.arange(3, dtype=">i4")) == digest(np.arange(3, dtype="<i4"))
    padded = np.dtype([("a", "i1"), ("b", "f8")], align=True)
    one, two = (np.frombuffer(bytes([fill]) * 32, np.uint8).copy().view(padded) for fill in (0, 7))
    for each in (one, two):
        each["a"], each["b"] = 1, 2.0
    assert one.tobytes() != two.tobytes()
    assert digest(one) == digest(two)
    shared = [1.5]
    assert digest([shared, shared]) == digest([[1.5], [1.5]])


def test_what_holds_itself_ends():
    ring: list = [1]
    ring.append(ring)
    assert digest(ring) != digest([1, [1]])


def test_what_does_not_tell_its_state_is_refused_by_name():
    with pytest.raises(ArtifactError, match="generator does not tell its state"):
        digest([each for each in range(3)] + [(each for each in range(3))])
