"""A run's steps without AWS: train a candidate, judge them all, refit the one that won.

The functions Train, Evaluate and Finalize call these, and so do `refit replay` and `refit reproduce`.
"""

from __future__ import annotations

import copy
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from refit import artifact, learning, rowprints, search, transfer
from refit.candidates import features_of, recent_rows
from refit.errors import ConfigError, TrainingError
from refit.evaluation import NO_LEAK, Evaluation, Gate, choose, evaluate, slices_of, trivial_predictions
from refit.metrics import CLASSIFICATION, METRICS, Task, score
from refit.models import CONTINUED, REFRESHING, ModelSpec
from refit.training import (
    Blocks,
    Dataset,
    build,
    check_labels,
    fit,
    frame_of_shard,
    last_step,
    predict,
    row_weights,
    said_by,
    weight_parameter,
)

TUNED_ON = 0.2  # newest share of the training rows on which a threshold is tuned where nothing is selected
THRESHOLDS = 200
WARM_UP, TIMED = 5, 30  # predictions of one row each


@dataclass(frozen=True)
class Model:
    """A fitted model and what has to be known of it to go on from it."""

    name: str  # of its version; empty for one that is not recorded
    candidate: str
    estimator: Any
    classes: tuple[str, ...]  # names, in the order of the estimator's classes_; none for regression
    features: tuple[dict[str, str], ...]  # name and type of each column it is shown
    threshold: float | None = None  # probability from which the second class is said
    fingerprints: np.ndarray | None = None  # of the rows it learned from: sorted, each once; None: not known
    parent: str = ""  # of one refitted on everything: the one that was tested
    base: str = ""  # the champion that it went on from
    trained_rows: int = 0
    parameters: Mapping[str, Any] = field(default_factory=dict)  # found by a search
    megabytes: float | None = None  # as an artifact
    recipe: str = ""  # of the declaration that it was made by; empty: not known


@dataclass(frozen=True)
class Judgement:
    """Which candidate was chosen, by which scores on the selection block, and how its test came out."""

    chosen: str
    selection: dict[str, float]  # finite ones; empty with a single candidate
    evaluation: Evaluation
    rows: dict[str, int]  # of the blocks, and how many of them were left out as known
    candidates: dict[str, dict[str, Any]]  # what is to be said of each


def refuse_unsupported(spec: ModelSpec) -> None:
    """Raises ConfigError for a declared candidate that the model's estimator does not support."""
    estimator = build(spec)
    last = last_step(estimator)
    if "continual" in spec.training.candidates and not hasattr(last, "partial_fit"):
        raise ConfigError(
            f"{spec.code or spec.declared_in}: training.candidates: continual needs partial_fit, "
            f"which {type(last).__name__} does not have; use SGDClassifier, MLPClassifier or GaussianNB, or drop it"
        )
    if spec.training.search:
        build(spec, search.some(spec.training.search, 0))


def train(candidate: str, data: Dataset, blocks: Blocks, spec: ModelSpec, champion: Model | None) -> Model:
    """Fit a candidate on its part of the training block.

    Raises
    ------
    TrainingError, NotEnoughData
        When it cannot be fitted.
    """
    rows = rows_of(candidate, data, blocks.train, spec, champion)
    parameters = {}
    if candidate == "search":
        assert spec.training.search
        parameters = search.best(spec.training.search, data, rows, spec)
    model = _fitted(candidate, data, rows, spec, champion, parameters)
    if spec.threshold != "tuned":
        return replace(model, threshold=spec.threshold)  # type: ignore[arg-type]
    on, learner = blocks.selection, model
    if not len(on):
        cut = int(len(rows) * (1 - TUNED_ON))
        on, learner = rows[cut:], _fitted(candidate, data, rows[:cut], spec, champion, parameters)
    return replace(model, threshold=tuned_threshold(learner, data, on, spec))


def refit(candidate: str, data: Dataset, spec: ModelSpec, champion: Model | None, tested: Model) -> Model:
    """Fit the candidate that won on everything, the test block included: the child that is promoted.

    It is made by its own method: what goes on from the champion does so again, with all rows that are new
    to it; found parameters and the tuned threshold are those of the tested one.
    """
    rows = rows_of(candidate, data, np.arange(len(data.labels)), spec, champion)
    model = _fitted(candidate, data, rows, spec, champion, tested.parameters)
    return replace(model, parent=tested.name, threshold=tested.threshold)


def rows_of(
    candidate: str, data: Dataset, block: np.ndarray, spec: ModelSpec, champion: Model | None
) -> np.ndarray:
    """The part of a block that a candidate learns from."""
    if candidate == "recent":
        return block[-recent_rows(spec, len(block)) :]
    return block[~data.seen[block]] if _goes_on(candidate, spec, champion) else block


def _goes_on(candidate: str, spec: ModelSpec, champion: Model | None) -> bool:
    """Whether it starts from the champion; a transfer that has done so often enough begins anew."""
    if candidate != "transfer" or champion is None:
        return candidate in CONTINUED
    return not transfer.exhausted(champion.estimator, build(spec))


def _fitted(
    candidate: str,
    data: Dataset,
    rows: np.ndarray,
    spec: ModelSpec,
    champion: Model | None,
    parameters: Mapping[str, Any],
) -> Model:
    columns = _identity(spec, data)
    prints = rowprints.union(rowprints.of(data.rows.take(rows), columns))
    base, classes = "", None
    if _goes_on(candidate, spec, champion):
        if champion is None:
            raise TrainingError(f"{candidate} goes on from the champion, and there is none")
        if tuple(champion.features) != features_of(spec):
            raise TrainingError(
                f"{candidate} goes on from {champion.name}, which knows other columns; let the others learn anew"
            )
        if not len(rows):
            raise TrainingError(f"{candidate} found no row that is new to {champion.name}")
        go_on = _continued if candidate == "continual" else _transferred
        estimator, classes = go_on(data, rows, spec, champion)
        base, prints = champion.name, rowprints.union(prints, champion.fingerprints)
    else:
        estimator = fit(data, rows, spec, parameters)
    if classes is None:
        known = getattr(estimator, "classes_", ()) if data.classes else ()
        classes = tuple(data.classes[code] for code in known)
    return Model(
        name="",
        candidate=candidate,
        estimator=estimator,
        classes=classes,
        features=features_of(spec),
        fingerprints=prints,
        base=base,
        trained_rows=len(rows),
        parameters=dict(parameters),
        recipe=spec.recipe,
    )


def refreshes(challenger: Model, champion: Model | None) -> bool:
    """Whether it is the champion's own recipe on newer data: nothing else tells the two apart."""
    if champion is None or challenger.candidate not in REFRESHING or not champion.recipe:
        return False
    return (challenger.candidate, challenger.recipe) == (champion.candidate, champion.recipe)


def _continued(
    data: Dataset, rows: np.ndarray, spec: ModelSpec, champion: Model
) -> tuple[Any, tuple[str, ...]]:
    """The champion after one pass over new rows in the order of time; earlier steps stay as they were fitted."""
    last = last_step(champion.estimator)
    if not hasattr(last, "partial_fit"):
        raise TrainingError(
            f"continual goes on with {champion.name}, but {type(last).__name__} has no partial_fit"
        )
    estimator = copy.deepcopy(champion.estimator)
    learner = last_step(estimator)
    labels = data.labels[rows]
    if spec.task in CLASSIFICATION:
        labels = _in_own_codes(labels, data, champion)
    weights = row_weights(data, rows, spec)
    if weights is not None:
        weight_parameter(estimator)
    named = {} if weights is None else {"sample_weight": weights}
    shown = transfer.prepared(estimator, data.frame(rows))
    said_by(learner, "partial_fit", lambda: learner.partial_fit(shown, labels, **named))
    return estimator, champion.classes


def _in_own_codes(labels: np.ndarray, data: Dataset, champion: Model) -> np.ndarray:
    """Labels in the codes that the champion was fitted on."""
    present = [data.classes[code] for code in np.unique(labels)]
    strange = sum(name not in champion.classes for name in present)
    if strange:  # how many, not which: the words end in logs
        raise TrainingError(
            f"continual goes on with {champion.name}, which does not know {strange} of {len(present)} classes; only "
            "a new fit learns a new class: declare another candidate beside it"
        )
    codes = np.asarray(champion.estimator.classes_)
    place = [champion.classes.index(name) if name in champion.classes else 0 for name in data.classes]
    return codes[np.array(place)][labels]


def _transferred(
    data: Dataset, rows: np.ndarray, spec: ModelSpec, champion: Model
) -> tuple[Any, tuple[str, ...] | None]:
    """A model that starts from the champion, fitted on the rows that are new to it."""
    check_labels(data, rows, spec)
    declared = build(spec)
    weights = row_weights(data, rows, spec)
    named = {} if weights is None else {"sample_weight": weights}
    frame, labels = data.frame(rows), data.labels[rows]
    goes_on = transfer.grown(champion.estimator, declared)
    if goes_on is not None and _all_known(labels, data, spec, champion):
        own = _in_own_codes(labels, data, champion) if spec.task in CLASSIFICATION else labels
        learner = last_step(goes_on)
        learner.set_params(warm_start=True)
        shown = transfer.prepared(goes_on, frame)
        said_by(learner, "fit", lambda: learner.fit(shown, own, **named))
        learner.set_params(warm_start=last_step(declared).warm_start)
        return goes_on, champion.classes
    columns = [feature["name"] for feature in champion.features]
    made = said_by(
        declared,
        "fit",
        lambda: transfer.starting_from(
            champion.estimator, columns, declared, frame, labels, spec.task, **named
        ),
    )
    return made, None


def _all_known(labels: np.ndarray, data: Dataset, spec: ModelSpec, champion: Model) -> bool:
    """Warm starts need the very classes of before."""
    if spec.task not in CLASSIFICATION:
        return True
    return {data.classes[code] for code in np.unique(labels)} == set(champion.classes)


def judge(
    data: Dataset,
    blocks: Blocks,
    trained: Mapping[str, Model],
    champion: Model | None,
    spec: ModelSpec,
    *,
    clock: Callable[[], float] | None = None,
) -> Judgement:
    """Choose one of the trained candidates on the selection block and test it once against the champion.

    Rows that one of the compared models has learned from count in neither block.

    Parameters
    ----------
    clock
        Gives seconds; without one, the time of a prediction is not measured.
    """
    metric, n_classes = METRICS[spec.gates.metric], len(data.classes)
    known = _Learned(data, spec)
    selecting = blocks.selection[~known.by(blocks.selection, [*trained.values(), champion])]
    selection: dict[str, float] = {}
    mute: dict[str, str] = {}  # candidates that cannot predict, and what they said

    def ask(name: str, index: np.ndarray, needs: str) -> np.ndarray | None:
        try:
            return _predictions(trained[name], data, index, spec, needs)
        except TrainingError as error:
            mute[name] = str(error)
            return None

    for name in trained if len(trained) > 1 else ():
        predicted = ask(name, selecting, metric.needs)
        if predicted is not None:
            selection[name] = score(spec.gates.metric, data.labels[selecting], predicted, n_classes)
    while True:
        able = [name for name in trained if name not in mute]
        if not able:
            told = "; ".join(f"{name}: {words}" for name, words in mute.items())
            raise TrainingError(f"no candidate can predict: {told}")
        chosen = choose(selection, able) or able[0]
        challenger = trained[chosen]
        test = blocks.test[~known.by(blocks.test, [challenger, champion])]
        said = ask(chosen, test, metric.needs)
        proba = ask(chosen, test, "proba") if spec.task in CLASSIFICATION else None
        if said is not None and chosen not in mute:
            break
    try:
        before = _predictions(champion, data, test, spec, metric.needs) if champion else None
    except TrainingError as error:
        raise TrainingError(
            f"{champion.name if champion else ''} cannot predict the test rows: {error}"
        ) from None
    shares = trivial_predictions(data.labels[blocks.train], len(test), spec.task, metric.needs, n_classes)
    evaluation = evaluate(
        data.labels[test],
        said,
        before,
        shares,
        spec.task,
        spec.gates,
        n_classes=n_classes,
        seed=spec.training.seed,
        proba=proba,
        slices=slices_of(data.rows.take(test), [c.name for c in data.features], spec.gates),
        refresh=refreshes(challenger, champion),
        megabytes=_megabytes(challenger, spec),
        latency_ms=_latency_ms(challenger, data, test, spec, clock) if clock and len(test) else None,
        notes=_notes(data, len(blocks.test) - len(test), known.equal_by_chance, champion),
    )
    finite = {name: value for name, value in selection.items() if np.isfinite(value)}
    rows = {name: len(getattr(blocks, name)) for name in ("train", "selection", "test")}
    rows["left_out"] = len(blocks.test) - len(test) + len(blocks.selection) - len(selecting)
    each = {name: _told(model, finite.get(name), mute.get(name, "")) for name, model in trained.items()}
    return Judgement(chosen, finite, evaluation, {**rows, "repeats": data.repeats}, each)


def learning_curve(
    tested: Model,
    data: Dataset,
    blocks: Blocks,
    champion: Model | None,
    spec: ModelSpec,
    *,
    clock: Callable[[], float] | None = None,
) -> learning.Curve:
    """Scores of the tested candidate after a quarter and half of its rows; for the report only."""
    needs = METRICS[spec.gates.metric].needs
    test = blocks.test[~_Learned(data, spec).by(blocks.test, [tested, champion])]

    def said(model: Model) -> np.ndarray:
        return _predictions(replace(model, threshold=tested.threshold), data, test, spec, needs)

    def learned_from(rows: np.ndarray) -> np.ndarray:
        return said(_fitted(tested.candidate, data, rows, spec, champion, tested.parameters))

    rows = rows_of(tested.candidate, data, blocks.train, spec, champion)
    truth = data.labels[test]
    found = learning.curve(learned_from, rows, said(tested), truth, spec, len(data.classes), clock)
    return replace(found, base=tested.base)


class _Learned:
    """Which rows of a data set the compared models have learned from."""

    def __init__(self, data: Dataset, spec: ModelSpec) -> None:
        self.data, self.spec, self.equal_by_chance = data, spec, 0
        self.told_apart = rowprints.told_apart(data.rows, _identity(spec, data))

    def by(self, index: np.ndarray, models: Sequence[Model | None]) -> np.ndarray:
        """Mask of those at `index` that one of the models knows, where values tell rows apart."""
        rows = self.data.rows.take(index)
        found = np.zeros(len(index), dtype=bool)
        for model in models:
            if model and model.fingerprints is not None:
                names = [feature["name"] for feature in model.features]
                prints = rowprints.of(rows, rowprints.identity(self.spec.contract, names))
                found |= rowprints.known(prints, model.fingerprints)
        if self.told_apart:
            return found
        self.equal_by_chance = int(found.sum())
        return np.zeros(len(index), dtype=bool)


def _notes(data: Dataset, left_out: int, by_chance: int, champion: Model | None) -> list[Gate]:
    """What is known of the test rows' independence; too few that are left fail the gate test_rows."""
    told = []
    if data.repeats:
        told.append(f"{data.repeats} new rows repeat rows that the champion learned from: not tested on")
    if left_out:
        told.append(f"{left_out} rows of the test block were learned from before: left out")
    if by_chance:
        told.append(
            f"{by_chance} test rows equal rows that were learned from, which proves nothing: so few values repeat "
            "by chance; declare time or keys, which tell rows apart"
        )
    if champion and champion.fingerprints is None:
        told.append(f"which rows {champion.name} learned from is not known")
    return [Gate("leak", True, "; ".join(told) or NO_LEAK)]


def _predictions(model: Model, data: Dataset, index: np.ndarray, spec: ModelSpec, needs: str) -> np.ndarray:
    if not len(index):
        return np.zeros((0, len(data.classes)) if needs == "proba" and spec.task is Task.MULTICLASS else 0)
    # In the columns that this model knows: an imported champion, or one from before the contract
    # changed, knows others than the challenger.
    frame = frame_of_shard(data.rows.take(index), model.features)
    return predict(
        model.estimator, frame, spec.task, needs, model.classes, data.classes, threshold=model.threshold
    )


def _megabytes(model: Model, spec: ModelSpec) -> float | None:
    """As an artifact; of a model that was not stored only where it matters."""
    if model.megabytes is None and spec.gates.max_megabytes is not None:
        return len(artifact.dump(model.estimator)[0]) / 1e6
    return model.megabytes


def _latency_ms(
    model: Model, data: Dataset, index: np.ndarray, spec: ModelSpec, clock: Callable[[], float]
) -> float:
    """Median of the milliseconds that one row takes, from typed values to a prediction."""
    took = []
    needs = "value" if spec.task is Task.REGRESSION else "proba"
    for i in range(WARM_UP + TIMED):
        begun = clock()
        _predictions(model, data, index[[i % len(index)]], spec, needs)
        took.append(clock() - begun)
    return statistics.median(took[WARM_UP:]) * 1000


def _told(model: Model, selection: float | None, failed: str) -> dict[str, Any]:
    return {
        "failed": failed,
        "version": model.name,
        "selection_score": selection,
        "trained_rows": model.trained_rows,
        "base": model.base,
        "threshold": model.threshold,
        "parameters": dict(model.parameters),
    }


def tuned_threshold(model: Model, data: Dataset, index: np.ndarray, spec: ModelSpec) -> float:
    """The probability of the second class from which saying it scores best on these rows; of equal ones the
    nearest to a half.

    Raises
    ------
    TrainingError
        When the metric is not defined on them.
    """
    proba = _predictions(model, data, index, spec, "proba")
    cuts = np.unique(np.quantile(proba, np.linspace(0, 1, THRESHOLDS))) if len(index) else np.array([])
    cuts = np.unique([0.5, *(cuts[1:] + cuts[:-1]) / 2])
    scores = [
        score(spec.gates.metric, data.labels[index], (proba >= cut).astype(int), len(data.classes))
        for cut in cuts
    ]
    best = np.nanmax(scores) if np.isfinite(scores).any() else None
    if best is None:
        raise TrainingError(
            f"the threshold cannot be tuned: {spec.gates.metric} is not defined on the {len(index)} rows before the "
            "test block (one class only); give decision.threshold a number"
        )
    return float(min(cuts[np.array(scores) == best], key=lambda cut: abs(cut - 0.5)))


def _identity(spec: ModelSpec, data: Dataset) -> list[str]:
    return rowprints.identity(spec.contract, (column.name for column in data.features))
