"""From frozen inputs to a fitted estimator: blocks of time, labels, candidates."""

from __future__ import annotations

import difflib
import inspect
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from refit import rowprints, schedule
from refit.contract import Column, ColumnType
from refit.errors import ConfigError, NotEnoughData, RefitError, TrainingError
from refit.metrics import CLASSIFICATION, Task
from refit.models import ModelSpec, build_function
from refit.profile import Profile
from refit.shard import NAT, Shard, concatenate, to_frame
from refit.tally import profile

if TYPE_CHECKING:
    import pandas as pd

PREDICTION = "prediction"


@dataclass(frozen=True)
class Dataset:
    """Labelled rows in time order.

    `rows` is the joint shard; `labels` has shape (n,): codes into `classes`, or
    values for regression; `seen` masks the rows the champion has learned from.
    `repeats` counts those of them that came in batches it had not learned from.
    """

    rows: Shard
    labels: np.ndarray
    classes: tuple[str, ...]
    seen: np.ndarray
    features: tuple[Column, ...]
    repeats: int = 0

    def frame(self, index: np.ndarray) -> pd.DataFrame:
        """Features of the rows at `index`."""
        return to_frame(self.rows.take(index), [column.name for column in self.features])


@dataclass(frozen=True)
class Blocks:
    """Row positions, each in time order. Candidates learn on `train`, one is
    chosen on `selection` (empty with a single candidate), and that one is
    tested once on `test`."""

    train: np.ndarray
    selection: np.ndarray
    test: np.ndarray


def assemble(
    shards: Sequence[Shard], seen: Sequence[bool], spec: ModelSpec, learned: np.ndarray | None = None
) -> Dataset:
    """Join batches into one data set in time order.

    Parameters
    ----------
    shards
        Oldest first; without a time column this order is the time order.
    seen
        For each shard, whether the champion has learned from it. Rows that
        come again in another shard are seen as well.
    learned
        Fingerprints of the rows that the champion was fitted on, where they are kept.
    """
    contract = spec.contract
    identity = rowprints.identity(contract, (column.name for column in contract.features))
    extra = [name for name in (*identity, contract.weight) if name]
    wanted = {name: contract.column(name) for name in (contract.target, *(f.name for f in contract.features))}
    wanted |= {name: contract.column(name) for name in extra}
    joint = concatenate(shards, list(wanted.values()))
    batch = np.repeat(np.arange(len(shards)), [shard.rows for shard in shards])
    known = np.array(seen, dtype=bool)[batch]
    before = known | _come_again(joint, identity, batch, np.array(seen, dtype=bool), learned)
    labelled = ~joint.is_null(contract.target)
    order = np.flatnonzero(labelled)
    if contract.time:
        order = order[np.argsort(joint.columns[contract.time][order], kind="stable")]
    rows = joint.take(order)
    labels, classes = encode_labels(rows, contract.target, spec.task)
    repeats = int((before & ~known & labelled).sum())
    return Dataset(rows, labels, classes, before[order], contract.features, repeats)


def _come_again(
    rows: Shard, identity: Sequence[str], batch: np.ndarray, seen: np.ndarray, learned: np.ndarray | None
) -> np.ndarray:
    """Mask of the rows that repeat what the champion learned from, in whatever file and order."""
    again = np.zeros(rows.rows, dtype=bool)
    if seen.all() or not (seen.any() or learned is not None):
        return again
    prints = rowprints.of(rows, identity)
    if rowprints.told_apart(rows, identity):
        return rowprints.known(prints, rowprints.union(prints[seen[batch]], learned))
    # Equal rows may be different people here; a whole batch that is another one in a new order is not.
    whole = [np.sort(prints[batch == i]).tobytes() for i in range(len(seen))]
    past = {each for each, known in zip(whole, seen, strict=True) if known}
    return np.array([each in past for each in whole])[batch] if len(whole) else again


def encode_labels(
    rows: Shard, target: str, task: Task, classes: Sequence[str] | None = None
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels as an estimator is given them.

    Returns
    -------
    labels
        Shape (n,): values for regression; else codes into `classes`, -1 for a class not among them.
    classes
        Names of the classes in order; given ones are kept. Empty for regression.
    """
    values = rows.columns[target]
    if task is Task.REGRESSION:
        return values.astype(float), ()
    if rows.types[target] is ColumnType.CATEGORY:
        names = list(rows.vocabularies[target])
        codes = values
    else:
        present, codes = np.unique(values, return_inverse=True)
        names = [class_name(bool(v) if rows.types[target] is ColumnType.BOOLEAN else v) for v in present]
    if classes is None:
        used = np.unique(codes)
        classes = tuple(names[code] for code in used)
    place = np.array([classes.index(name) if name in classes else -1 for name in names], dtype=np.int64)
    return place[codes], tuple(classes)


def class_name(value: Any) -> str:
    """A label as people write it: true, 3, setosa."""
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    # Every digit counts: 1000001 and 1000002 are two classes.
    return repr(float(value)).removesuffix(".0") if isinstance(value, int | float | np.number) else str(value)


def split(dataset: Dataset, spec: ModelSpec, candidates: int) -> Blocks:
    """Cut the newest rows that the champion has not seen into selection and test block.

    Everything else is learned from. With files that arrive in order that is
    the past; a late month is tested on itself although newer rows are known.

    Raises
    ------
    NotEnoughData
        Saying how many rows are there and how many are needed.
    """
    fresh = np.flatnonzero(~dataset.seen)
    new = f"{len(fresh)} labelled rows are new to the champion"
    if dataset.repeats:
        new += f" ({dataset.repeats} others repeat rows that it learned from)"
    several = candidates > 1
    n_test = int(len(fresh) * spec.training.test_share)
    n_selection = int(len(fresh) * spec.training.selection_share) if several else 0
    needed = spec.gates.min_test_rows
    if n_test < needed:
        raise NotEnoughData(
            f"{new}; with test_share {spec.training.test_share} they "
            f"give {n_test} test rows, gates.min_test_rows asks for {needed}; add data or lower it"
        )
    if several and n_selection < needed // 2:
        raise NotEnoughData(
            f"{new}; with selection_share "
            f"{spec.training.selection_share} they give {n_selection} rows to choose a candidate on, half of "
            f"gates.min_test_rows, {needed // 2}, are needed; add data or raise selection_share"
        )
    test = fresh[len(fresh) - n_test :]
    selection = fresh[len(fresh) - n_test - n_selection : len(fresh) - n_test]
    held_out = np.zeros(len(dataset.labels), dtype=bool)
    held_out[test] = held_out[selection] = True
    train = np.flatnonzero(~held_out)
    if len(train) < needed:
        raise NotEnoughData(f"only {len(train)} rows are left to learn from; at least {needed} are needed")
    return Blocks(train, selection, test)


def fit(
    dataset: Dataset, index: np.ndarray, spec: ModelSpec, parameters: Mapping[str, Any] | None = None
) -> Any:
    """Build and fit the model's estimator on the rows at `index`, with these parameters instead of declared ones.

    Raises
    ------
    TrainingError
        With what the estimator said.
    """
    check_labels(dataset, index, spec)
    estimator = build(spec, parameters)
    weights = row_weights(dataset, index, spec)
    named = {} if weights is None else {weight_parameter(estimator): weights}
    frame, labels = dataset.frame(index), dataset.labels[index]
    return said_by(estimator, "fit", lambda: estimator.fit(frame, labels, **named))


def check_labels(dataset: Dataset, index: np.ndarray, spec: ModelSpec) -> None:
    """Raises NotEnoughData for one class alone, TrainingError for too many."""
    if spec.task in CLASSIFICATION and len(np.unique(dataset.labels[index])) < 2:
        raise NotEnoughData(f"all {len(index)} training rows have the same label; add rows of another class")
    if spec.task is Task.BINARY and len(dataset.classes) > 2:
        several = len(dataset.classes)  # how many, not which: the words end in logs
        raise TrainingError(
            f"task is binary but {spec.contract.target!r} has {several} classes; use multiclass"
        )


def said_by(estimator: Any, verb: str, call: Callable[[], Any]) -> Any:
    """What `call` returns; whatever it raises becomes a TrainingError in the estimator's words."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # convergence and such: the evaluation judges, not a warning
            return call()
    except RefitError:
        raise
    except Exception as error:  # noqa: BLE001 - an estimator may raise anything; it is named here
        raise TrainingError(f"{type(estimator).__name__}.{verb} failed: {_told(error)}") from None


def row_weights(dataset: Dataset, index: np.ndarray, spec: ModelSpec) -> np.ndarray | None:
    """How much each row counts, shape (len(index),); None when all count the same.

    The declared column times half for each half-life of age, which is counted
    from the newest of these rows; rows without a time count as the oldest.
    """
    weights = None
    if spec.training.weights:
        weights = dataset.rows.columns[spec.training.weights][index]
        wrong = int((~np.isfinite(weights) | (weights < 0)).sum())
        if wrong:
            raise TrainingError(
                f"{wrong} of {len(index)} rows have no weight in {spec.training.weights!r} that is finite and at "
                "least 0; correct the uploads, and declare min = 0 and hard = true for the column"
            )
    step = schedule.length(spec.training.half_life) if spec.training.half_life else None
    if step and spec.contract.time:
        times = dataset.rows.columns[spec.contract.time][index]
        there = times != NAT
        oldest, newest = (times[there].min(), times[there].max()) if there.any() else (0, 0)
        age = (newest - np.where(there, times, oldest)) / (step.total_seconds() * 1e9)
        weights = 0.5**age * (1.0 if weights is None else weights)
    if weights is not None and not weights.sum() > 0:
        raise TrainingError(f"the weights of all {len(index)} training rows are 0; nothing can be learned")
    return weights


def last_step(estimator: Any) -> Any:
    """What learns: the last step of a Pipeline, or the estimator itself."""
    return estimator.steps[-1][1] if hasattr(estimator, "steps") else estimator


def weight_parameter(estimator: Any) -> str:
    """What `fit` calls the weights; raises ConfigError for an estimator that takes none."""
    from sklearn.utils.validation import has_fit_parameter

    last = last_step(estimator)
    if not has_fit_parameter(last, "sample_weight"):
        raise ConfigError(
            f"{type(last).__name__}.fit takes no sample_weight; use another estimator, or drop training.weights "
            "and training.half_life"
        )
    return f"{estimator.steps[-1][0]}__sample_weight" if hasattr(estimator, "steps") else "sample_weight"


def _told(error: Exception) -> str:
    """An estimator's words for logs and events: without what a complaint about values quotes of them."""
    text = str(error)
    if isinstance(error, ValueError) and type(error).__name__ != "InvalidParameterError":
        text = re.sub(r"""'[^']*'|"[^"]*"|\[[^\]]*\]""", "(value)", text)
    return f"{type(error).__name__}: {text[:500]}"


def build(spec: ModelSpec, parameters: Mapping[str, Any] | None = None) -> Any:
    """The model's own estimator, else the default one, seeded and unfitted.

    `parameters` are set beside the declared ones; of the last step where the Pipeline has none of that name.
    """
    own = _own(spec)
    estimator = default_estimator(spec) if own is None else own  # `or` asks an ensemble for its length
    if spec.training.weights or spec.training.half_life:
        weight_parameter(estimator)
    if not parameters:
        return estimator
    there = estimator.get_params(deep=True)
    inner = f"{estimator.steps[-1][0]}__" if hasattr(estimator, "steps") else ""
    named = {name if name in there else inner + name: value for name, value in parameters.items()}
    unknown = [name for name in named if name not in there]
    if unknown:
        raise ConfigError(
            f"{spec.declared_in}: training.search.space: {type(last_step(estimator)).__name__} has no "
            f"parameter {unknown[0].removeprefix(inner)!r}"
        )
    return estimator.set_params(**named)


def _own(spec: ModelSpec) -> Any:
    own = build_function(spec)
    if own is None:
        return None
    try:
        estimator = own()
    except (Exception, SystemExit) as error:
        raise ConfigError(f"{spec.code}: build() failed: {type(error).__name__}: {error}") from error
    if isinstance(estimator, type):
        raise ConfigError(
            f"{spec.code}: build() returned the class {estimator.__name__}; return one of it, {estimator.__name__}()"
        )
    if not hasattr(estimator, "fit") or not hasattr(estimator, "predict"):
        raise ConfigError(f"{spec.code}: build() returned {type(estimator).__name__}, not an estimator")
    if spec.task in CLASSIFICATION and not hasattr(estimator, "predict_proba"):
        raise ConfigError(f"{spec.code}: build() must return a classifier with predict_proba")
    return _seeded(estimator, spec.training.seed)


def default_estimator(spec: ModelSpec) -> Any:
    """Histogram gradient boosting on ordinal-encoded categories; [estimator] sets its parameters."""
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OrdinalEncoder

    categories = [c.name for c in spec.contract.features if c.type is ColumnType.CATEGORY]
    numbers = [c.name for c in spec.contract.features if c.type is not ColumnType.CATEGORY]
    encoder = OrdinalEncoder(
        handle_unknown="use_encoded_value",
        unknown_value=np.nan,  # as a missing value: boosting learns a direction for those
        encoded_missing_value=np.nan,
        max_categories=250,  # boosting bins 255 at most; the rare ones share a code
    )
    prepare = ColumnTransformer([("category", encoder, categories), ("number", "passthrough", numbers)])
    kind = HistGradientBoostingRegressor if spec.task is Task.REGRESSION else HistGradientBoostingClassifier
    ours = {
        "categorical_features": list(range(len(categories))) or None,
        "random_state": spec.training.seed,
    }
    known = [name for name in inspect.signature(kind).parameters if name not in ours]
    mistakes = []
    for name in spec.estimator:
        if name in ours:
            mistakes.append(f"estimator.{name}: is set by Refit; remove it")
        elif name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            fix = f"did you mean {near[0]!r}?" if near else f"{kind.__name__} knows {', '.join(known)}"
            mistakes.append(f"estimator.{name}: unknown key; {fix}")
    if mistakes:
        raise ConfigError("\n".join(f"{spec.declared_in}: {mistake}" for mistake in mistakes))
    boosting = kind(**ours, **{"early_stopping": False, **spec.estimator})
    return Pipeline([("prepare", prepare), ("model", boosting)])


def _seeded(estimator: Any, seed: int) -> Any:
    unset = {
        name: seed
        for name, value in estimator.get_params(deep=True).items()
        if name.split("__")[-1] == "random_state" and value is None
    }
    return estimator.set_params(**unset)


def predict(
    estimator: Any,
    frame: pd.DataFrame,
    task: Task,
    needs: str,
    own_classes: Sequence[str] = (),
    classes: Sequence[str] = (),
    threshold: float | None = None,
) -> np.ndarray:
    """Predictions in the form that a metric needs (see `metrics.Metric.needs`).

    Parameters
    ----------
    own_classes
        Class names in the order of the estimator's `classes_`.
    classes
        Class names in the order of the labels it is scored against. A class
        that the estimator does not know has probability 0.
    threshold
        Of a binary task: the probability from which the second of its own classes is said.

    Raises
    ------
    TrainingError
        With what the estimator said, or when what it gave has another shape.
    """
    if task is Task.REGRESSION:
        return _said(estimator, "predict", frame).astype(float)
    place = [classes.index(name) if name in classes else -1 for name in own_classes]
    given = _said(estimator, "predict_proba", frame, len(own_classes))
    if needs == "label":
        if not np.isfinite(given).all():
            raise TrainingError(
                f"{type(estimator).__name__}.predict_proba gave probabilities that are not finite"
            )
        return np.array(place, dtype=np.int64)[likeliest(given, threshold)]
    proba = np.zeros((len(frame), len(classes) + 1))
    proba[:, place] = given  # what is not among `classes` lands in the last column
    proba = proba[:, :-1]
    return proba[:, 1] if task is Task.BINARY else proba


def likeliest(proba: np.ndarray, threshold: float | None = None) -> np.ndarray:
    """The class that is said of each row, as its column in `proba`: what is tested is what serves.

    The likeliest; where there is a threshold, the second of two from it on. Not what the estimator's own `predict`
    says: of an SVM that is another one than its probabilities'.
    """
    if threshold is not None and proba.shape[1] == 2:
        return (proba[:, 1] >= threshold).astype(int)
    return proba.argmax(axis=1)


def _said(estimator: Any, verb: str, frame: pd.DataFrame, *columns: int) -> np.ndarray:
    """What it says of each row, shape (rows, *columns)."""
    said = said_by(estimator, verb, lambda: np.asarray(getattr(estimator, verb)(frame)))
    if said.shape != (len(frame), *columns):
        raise TrainingError(
            f"{type(estimator).__name__}.{verb} gave shape {said.shape}, not {(len(frame), *columns)}: one "
            "prediction a row, and a probability for each class"
        )
    return said.astype(float) if columns else said


def prediction_profile(
    estimator: Any, frame: pd.DataFrame, task: Task, own_classes: Sequence[str] = ()
) -> Profile:
    """What a version predicts, as a profile of the one column `PREDICTION`.

    Probabilities of the positive class, predicted classes, or values.
    """
    if task is Task.MULTICLASS:
        codes = predict(estimator, frame, task, "label", own_classes, own_classes).astype(np.int32)
        shard = Shard({PREDICTION: codes}, {PREDICTION: ColumnType.CATEGORY}, {PREDICTION: own_classes})
    else:
        needs = "value" if task is Task.REGRESSION else "proba"
        values = predict(estimator, frame, task, needs, own_classes, own_classes)
        values = np.where(np.isfinite(values), values, np.nan)
        shard = Shard({PREDICTION: values}, {PREDICTION: ColumnType.NUMBER})
    return profile(shard)


def frame_of_shard(shard: Shard, features: Sequence[Mapping[str, str]]) -> pd.DataFrame:
    """A frame in the form the estimator was fitted on; a column that the shard lacks is missing values."""
    columns = [Column(feature["name"], ColumnType(feature["type"])) for feature in features]
    return to_frame(concatenate([shard], columns), [column.name for column in columns])


def frame_of_records(
    records: Sequence[Mapping[str, Any]], features: Sequence[Mapping[str, str]]
) -> pd.DataFrame:
    """A frame in the form the estimator was fitted on, from JSON-like records.

    Absent and unconvertible values are missing values; unknown keys are passed over.
    """
    import pandas as pd

    data: dict[str, Any] = {}
    for feature in features:
        name, kind = feature["name"], ColumnType(feature["type"])
        values = [record.get(name) for record in records]
        if kind is ColumnType.CATEGORY:
            words = [_word(value) for value in values]
            known = sorted({word for word in words if word is not None})
            data[name] = pd.Categorical(words, categories=pd.Index(known, dtype=object))
        else:
            data[name] = np.array([_float(value) for value in values], dtype=float)
    return pd.DataFrame(data)


def _word(value: Any) -> str | None:
    if value is None or value != value:  # NaN is not itself
        return None
    return str(value).lower() if isinstance(value, bool) else str(value)


def _float(value: Any) -> float:
    try:
        return float("nan") if value is None else float(value)
    except (TypeError, ValueError, OverflowError):
        return float("nan")
