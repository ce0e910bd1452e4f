"""A run's steps: candidates, training, judgement and the refit of what won."""

import copy
from dataclasses import replace

import numpy as np
import pytest
from small_model import KINDS, SPEC

from refit import artifact, canonical, search, transfer
from refit.candidates import applicable
from refit.contract import Column, ColumnType
from refit.errors import ConfigError, NotEnoughData, TrainingError
from refit.metrics import Task
from refit.models import Gates, ModelSpec, Search
from refit.shard import NAT, Shard
from refit.training import Blocks, Dataset, assemble, predict, row_weights, split
from refit.trial import (
    Model,
    judge,
    learning_curve,
    refit,
    refreshes,
    refuse_unsupported,
    train,
    tuned_threshold,
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


# --- candidates that go on from the champion

SGD = """
def build():
    from sklearn.compose import ColumnTransformer
    from sklearn.linear_model import SGDClassifier
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler
    scale = ColumnTransformer([("x", StandardScaler(), ["x"])])
    return Pipeline([("scale", scale), ("model", SGDClassifier(loss="log_loss"))])
"""
FOREST = """
def build():
    from sklearn.compose import make_column_selector, make_column_transformer
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.pipeline import Pipeline
    take = make_column_transformer(("passthrough", ["x"]))
    return Pipeline([("take", take), ("model", RandomForestClassifier(10, max_depth=3))])
"""


def own(tmp_path, code: str, spec=SPEC, **more) -> ModelSpec:
    path = tmp_path / "model.py"
    path.write_text(code)
    return training(replace(spec, code=str(path), estimator={}), **more)


def everything(data: Dataset) -> Blocks:
    return Blocks(np.arange(len(data.labels)), NONE, NONE)


def champion_of(spec: ModelSpec, *shards: Shard, candidate="full") -> Model:
    data = data_of(*shards, spec=spec)
    return replace(train(candidate, data, everything(data), spec, None), name="v1")


def right(model: Model, data: Dataset, index=slice(None)) -> float:
    where = np.arange(len(data.labels))[index]
    said = predict(model.estimator, data.frame(where), Task.BINARY, "label", model.classes, data.classes)
    return float((said == data.labels[where]).mean())


def test_continual_is_one_pass_of_the_champion_over_the_rows_it_has_not_seen(tmp_path):
    spec = own(tmp_path, SGD, candidates=("continual",))
    champion = champion_of(spec, rows())
    before = canonical.digest(champion.estimator)
    data = data_of(rows(), rows(100, seed=1, start=200), seen=[True, False], spec=spec)
    model = train("continual", data, everything(data), spec, champion)
    by_hand = copy.deepcopy(champion.estimator)
    new = data.frame(np.arange(200, 300))
    by_hand[-1].partial_fit(by_hand[:-1].transform(new), data.labels[200:])
    assert canonical.digest(model.estimator) == canonical.digest(by_hand)
    assert canonical.digest(champion.estimator) == before, "the champion itself is left alone"
    assert canonical.digest(model.estimator[0]) == canonical.digest(champion.estimator[0])
    assert (model.trained_rows, model.base) == (100, "v1")
    assert len(model.fingerprints) == 300, "it knows what the champion knew"


def test_the_refit_of_a_continual_candidate_goes_on_from_the_champion_with_all_new_rows(tmp_path):
    spec = own(tmp_path, SGD, candidates=("continual",))
    champion = champion_of(spec, rows())
    data = data_of(rows(), rows(100, seed=1, start=200), seen=[True, False], spec=spec)
    blocks = Blocks(np.arange(260), NONE, np.arange(260, 300))
    tested = replace(train("continual", data, blocks, spec, champion), name="v2-continual")
    child = refit("continual", data, spec, champion, tested)
    assert (tested.trained_rows, child.trained_rows, child.parent) == (60, 100, "v2-continual")
    at_once = train("continual", data, everything(data), spec, champion)
    assert canonical.digest(child.estimator) == canonical.digest(at_once.estimator)


@pytest.mark.parametrize(("candidate", "base", "most"), [("continual", "v1", 300), ("full", "", 500)])
def test_the_curve_of_what_goes_on_from_the_champion_counts_new_rows_and_says_from_whom(
    tmp_path, candidate, base, most
):
    spec = own(tmp_path, SGD, candidates=(candidate,))
    champion = champion_of(spec, rows())
    data = data_of(rows(), rows(500, seed=1, start=200), seen=[True, False], spec=spec)
    blocks = split(data, spec, 1)  # of 500 new rows 200 test
    tested = train(candidate, data, blocks, spec, champion)
    curve = learning_curve(tested, data, blocks, champion, spec)
    assert (curve.base, curve.points[-1].rows) == (base, most)


def test_continual_keeps_the_codes_of_its_champion_when_a_class_has_gone(tmp_path):
    """The champion knew a and c as the codes 0 and 2 of three classes; the data know only those two."""
    spec = own(tmp_path, SGD, candidates=("continual",))
    data = data_of(rows(), spec=spec)
    champion = replace(
        train(
            "full",
            replace(data, labels=data.labels * 2, classes=("a", "b", "c")),
            everything(data),
            MULTI(spec),
            None,
        ),
        name="v1",
    )
    assert champion.classes == ("a", "c")
    again = replace(data_of(rows(seed=1), spec=spec), classes=("a", "c"))
    model = train("continual", again, everything(again), MULTI(spec), champion)
    assert model.estimator.classes_.tolist() == [0, 2]
    assert right(model, again) > 0.8


def MULTI(spec):
    return replace(spec, task=Task.MULTICLASS, gates=replace(spec.gates, metric="accuracy"))


def test_continual_refuses_a_class_that_its_champion_does_not_know(tmp_path):
    spec = own(tmp_path, SGD, candidates=("continual",))
    champion = champion_of(spec, rows())
    data = replace(data_of(rows(seed=1), spec=spec), classes=("false", "maybe"))
    with pytest.raises(TrainingError, match="v1, which does not know 1 of 2 classes"):
        train("continual", data, everything(data), spec, champion)


@pytest.mark.parametrize("candidate", ["continual", "transfer"])
def test_without_a_champion_or_with_one_of_other_columns_nothing_goes_on(tmp_path, candidate):
    spec = own(tmp_path, SGD, candidates=("full", candidate))
    champion = champion_of(spec, rows())
    data = data_of(rows(seed=1), spec=spec)
    assert applicable(spec, 200, None) == ("full",)
    assert applicable(spec, 200, champion) == ("full", candidate)
    other = replace(champion, features=champion.features[:1])
    assert applicable(spec, 200, other) == ("full",)
    assert applicable(own(tmp_path, SGD, candidates=(candidate,)), 200, None) == ("full",)
    with pytest.raises(TrainingError, match="there is none"):
        train(candidate, data, everything(data), spec, None)
    with pytest.raises(TrainingError, match="v1, which knows other columns"):
        train(candidate, data, everything(data), spec, other)


def test_continual_without_partial_fit_is_a_named_mistake(tmp_path):
    spec = own(tmp_path, FOREST, candidates=("full", "continual"))
    with pytest.raises(
        ConfigError, match="continual needs partial_fit, which RandomForestClassifier does not"
    ):
        refuse_unsupported(spec)
    champion = champion_of(spec, rows())
    data = data_of(rows(seed=1), spec=spec)
    with pytest.raises(TrainingError, match="RandomForestClassifier has no partial_fit"):
        train("continual", data, everything(data), spec, champion)


def test_transfer_adds_trees_to_a_forest_until_it_is_four_times_as_large_and_then_begins_anew(tmp_path):
    spec = own(tmp_path, FOREST, candidates=("transfer",))
    model, sizes = champion_of(spec, rows()), []
    data = data_of(rows(), rows(100, seed=1, start=200), seen=[True, False], spec=spec)
    for _ in range(11):
        first = model.estimator[-1].estimators_[0]
        model = replace(train("transfer", data, everything(data), spec, model), name="v2")
        sizes.append((model.estimator[-1].n_estimators, model.trained_rows))
    assert sizes[:2] == [(13, 100), (16, 100)]
    assert sizes[9:] == [(40, 100), (10, 300)]
    assert canonical.digest(first) != canonical.digest(model.estimator[-1].estimators_[0])
    assert model.base == ""


def test_transfer_of_histogram_boosting_starts_from_the_champions_output_and_can_be_stored():
    """300 rows taught the champion; 60 new ones turn nothing around, so what it knew must still be known."""
    spec = training(candidates=("transfer",))
    champion = champion_of(spec, rows(300))
    data = data_of(rows(300), rows(60, seed=1, start=300), seen=[True, False], spec=spec)
    model = train("transfer", data, everything(data), spec, champion)
    assert (model.trained_rows, model.base, model.classes) == (60, "v1", ("false", "true"))
    assert right(model, data_of(rows(400, seed=9))) > 0.8
    stored, sha256 = artifact.dump(model.estimator)
    again = artifact.load(stored, sha256)
    assert canonical.digest(again) == canonical.digest(model.estimator)
    frame = data.frame(np.arange(300, 360))
    np.testing.assert_array_equal(again.predict_proba(frame), model.estimator.predict_proba(frame))


def test_transfers_inside_of_each_other_are_three_at_most():
    spec = training(candidates=("transfer",))
    model = champion_of(spec, rows(100))
    data = data_of(rows(100), rows(100, seed=1, start=100), seen=[True, False], spec=spec)
    depths = []
    for _ in range(4):
        model = replace(train("transfer", data, everything(data), spec, model), name="v")
        depths.append(transfer.depth(model.estimator))
    assert depths == [1, 2, 3, 0]
    assert model.trained_rows == 200, "and the one that begins anew learns from everything"


def test_transfer_of_a_regression_learns_what_the_champion_lacks():
    """The champion knows y = x; new rows say y = x + 5."""
    columns = tuple(c if c.name != "y" else Column("y", ColumnType.NUMBER) for c in SPEC.contract.columns)
    spec = replace(
        training(candidates=("transfer",)),
        task=Task.REGRESSION,
        contract=replace(SPEC.contract, columns=columns),
        gates=replace(SPEC.gates, metric="r2"),
        estimator={"max_iter": 60, "min_samples_leaf": 5},
    )

    def values(n, seed, start, more):
        shard = rows(n, seed, start)
        return replace(
            shard,
            columns={**shard.columns, "y": shard.columns["x"] + more},
            types={**shard.types, "y": ColumnType.NUMBER},
        )

    champion = champion_of(spec, values(400, 0, 0, 0))
    data = data_of(values(400, 0, 0, 0), values(50, 1, 400, 5), seen=[True, False], spec=spec)
    model = train("transfer", data, everything(data), spec, champion)
    fresh = data_of(values(100, 2, 0, 5), spec=spec)
    said = predict(model.estimator, fresh.frame(np.arange(100)), Task.REGRESSION, "value")
    assert np.abs(said - fresh.labels).mean() < 0.3
    assert artifact.dump(model.estimator)


# --- search


def test_a_search_finds_what_fits_and_its_finding_is_used_again():
    """Boosting with a learning rate of nearly nothing learns nothing; 0.3 does."""
    space = {"learning_rate": [1e-9, 0.3]}
    spec = training(candidates=("search",), search=Search(6, space))
    gates = replace(SPEC.gates, metric="neg_log_loss")
    spec = replace(spec, estimator={**SPEC.estimator, "learning_rate": 1e-9}, gates=gates)
    data = data_of(rows(200))
    blocks = Blocks(np.arange(160), NONE, np.arange(160, 200))
    tested = train("search", data, blocks, spec, None)
    assert tested.parameters == {"learning_rate": 0.3}
    assert right(tested, data, slice(160, 200)) > 0.8
    child = refit("search", data, spec, None, tested)
    assert child.estimator[-1].learning_rate == 0.3
    assert child.trained_rows == 200


def test_a_search_is_seeded_and_draws_within_its_space():
    declared = Search(
        1, {"a": {"min": 1, "max": 9}, "b": {"min": 0.001, "max": 1.0, "log": True}, "c": ["x"]}
    )
    drawn = [search.some(declared, seed) for seed in range(50)]
    assert drawn == [search.some(declared, seed) for seed in range(50)]
    assert {type(each["a"]) for each in drawn} == {int}
    assert {each["a"] for each in drawn} == set(range(1, 10))
    assert all(0.001 <= each["b"] <= 1 for each in drawn)
    assert sum(each["b"] < 0.0316 for each in drawn) in range(15, 36), "by the logarithm half lie below"


def test_a_parameter_that_does_not_exist_is_a_named_mistake():
    with pytest.raises(ConfigError, match="HistGradientBoostingClassifier has no parameter 'lerning_rate'"):
        refuse_unsupported(training(candidates=("search",), search=Search(1, {"lerning_rate": [1]})))


def test_a_search_in_which_nothing_can_be_fitted_says_why():
    spec = training(candidates=("search",), search=Search(1, {"max_iter": [-1]}))
    data = data_of(rows(100))
    with pytest.raises(TrainingError, match=r"the search found nothing: .*max_iter"):
        train("search", data, everything(data), replace(spec, estimator={"max_iter": -2}), None)


# --- weights


def weighted(**more) -> ModelSpec:
    columns = (*SPEC.contract.columns, Column("w", ColumnType.NUMBER))
    return training(
        replace(SPEC, contract=replace(SPEC.contract, columns=columns, weight="w")), weights="w", **more
    )


def with_weights(shard: Shard, weights) -> Shard:
    return replace(
        shard,
        columns={**shard.columns, "w": np.broadcast_to(np.asarray(weights, float), shard.rows).copy()},
        types={**shard.types, "w": ColumnType.NUMBER},
    )


def test_rows_without_weight_teach_nothing():
    """Half of the rows say the opposite, and count nothing."""
    spec = weighted()
    data = data_of(with_weights(rows(150), 1), with_weights(rows(150, 1, 150, flipped=True), 0), spec=spec)
    model = train("full", data, everything(data), spec, None)
    assert [feature["name"] for feature in model.features] == ["x", "c"]
    assert right(model, data_of(with_weights(rows(200, 5), 1), spec=spec)) > 0.7


def test_a_weight_halves_with_each_half_life_of_the_datas_time_and_both_multiply():
    day = 86_400_000_000_000
    spec = weighted(half_life="10 days")
    shard = with_weights(rows(4), [1, 1, 1, 3])
    shard.columns["at"][:] = [NAT, 0, 10 * day, 20 * day]
    data = data_of(shard, spec=spec)
    assert row_weights(data, np.arange(4), spec).tolist() == [0.25, 0.25, 0.5, 3]
    assert row_weights(data, np.arange(2, 3), spec).tolist() == [1], (
        "counted from the newest row that is learned from"
    )


@pytest.mark.parametrize("bad", [np.nan, -1, np.inf])
def test_a_weight_that_is_none_is_refused_with_how_many(bad):
    spec = weighted()
    weights = np.ones(100)
    weights[:7] = bad
    data = data_of(with_weights(rows(100), weights), spec=spec)
    with pytest.raises(TrainingError, match=r"7 of 100 rows have no weight in 'w'"):
        train("full", data, everything(data), spec, None)


def test_weights_of_nothing_are_refused():
    data = data_of(with_weights(rows(100), 0), spec=weighted())
    with pytest.raises(TrainingError, match="are 0; nothing can be learned"):
        train("full", data, everything(data), weighted(), None)


def test_an_estimator_that_takes_no_weights_is_a_named_mistake(tmp_path):
    code = "def build():\n    from sklearn.neighbors import KNeighborsClassifier as K\n    return K()\n"
    spec = own(tmp_path, code, half_life="9 days")
    with pytest.raises(ConfigError, match=r"KNeighborsClassifier.fit takes no sample_weight"):
        refuse_unsupported(spec)


# --- thresholds


def of_f1(**more) -> ModelSpec:
    return replace(SPEC, gates=replace(SPEC.gates, metric="f1"), **more)


def rare(n=400, seed=0, start=0) -> Shard:
    """y is rare: with a probability of 0.45 where x is above 1, else never. Nobody who says the likeliest says yes."""
    rng = np.random.default_rng([seed, 7])
    shard = rows(n, seed, start)
    shard.columns["y"][:] = (shard.columns["x"] > 1) & (rng.random(n) < 0.45)
    return shard


@pytest.mark.parametrize("selected", [True, False])
def test_a_tuned_threshold_scores_better_than_a_half_and_serves(selected):
    """On the selection block where there is one, else on the newest of what is learned from."""
    spec = of_f1(threshold="tuned")
    data = data_of(rare(600))
    held = np.arange(400, 500) if selected else NONE
    blocks = Blocks(np.arange(400 if selected else 500), held, np.arange(500, 600))
    model = train("full", data, blocks, spec, None)
    assert 0.05 < model.threshold < 0.5
    assert model.trained_rows == len(blocks.train), "the tuned one learns from all of its block"
    found = judge(data, blocks, {"full": model}, None, spec)
    half = judge(data, blocks, {"full": replace(model, threshold=0.5)}, None, spec)
    assert found.evaluation.challenger_score > half.evaluation.challenger_score
    assert refit("full", data, spec, None, model).threshold == model.threshold


def test_without_a_selection_block_a_threshold_is_tuned_on_rows_that_its_model_did_not_learn_from():
    """On the newest 100 of 500 rows, with a model of the 400 before."""
    spec, data = of_f1(threshold="tuned"), data_of(rare(500))
    before = train("full", data, Blocks(np.arange(400), NONE, NONE), of_f1(), None)
    expected = tuned_threshold(before, data, np.arange(400, 500), spec)
    assert train("full", data, everything(data), spec, None).threshold == expected


def test_a_given_threshold_is_kept_and_decides_which_class_is_said():
    spec = of_f1(threshold=0.3)
    data = data_of(rare())
    model = train("full", data, everything(data), spec, None)
    assert model.threshold == 0.3
    frame = data.frame(np.arange(400))
    second = model.estimator.predict_proba(frame)[:, 1]
    said = predict(model.estimator, frame, Task.BINARY, "label", model.classes, data.classes, model.threshold)
    assert (said == (second >= 0.3)).all()
    assert said.sum() > 0


def test_a_threshold_that_cannot_be_tuned_is_a_named_refusal():
    data = data_of(rows(100))
    blocks = Blocks(np.arange(80), np.flatnonzero(data.labels[80:] == 0) + 80, NONE)
    with pytest.raises(TrainingError, match=r"f1 is not defined on the .* rows before the test block"):
        train("full", data, blocks, of_f1(threshold="tuned"), None)


# --- rows that a model has learned from


def judged(data: Dataset, champion: Model | None, spec=SPEC, **more):
    blocks = split(data, spec, 1)
    return judge(
        data, blocks, {"full": train("full", data, blocks, spec, champion)}, champion, spec, **more
    ), blocks


def gate(found, name: str):
    (one,) = (each for each in found.evaluation.gates if each.name == name)
    return one


def test_a_planted_row_that_the_champion_learned_from_is_never_a_test_row():
    """10 of 100 new rows are the champion's own, planted among the newest: 90 are new, the newest 36 test."""
    past, new = rows(200), rows(100, seed=1, start=200)
    new = data_with(new, 90, past, 10)
    champion = champion_of(SPEC, past)
    data = data_of(past, new, seen=[True, False])
    assert (data.repeats, int((~data.seen).sum())) == (10, 90)
    found, blocks = judged(data, champion)
    assert len(blocks.test) == found.evaluation.test_rows == 36
    assert "10 new rows repeat rows that the champion learned from" in gate(found, "leak").message
    assert "10 new rows repeat" in found.evaluation.reason


def data_with(shard: Shard, kept: int, other: Shard, planted: int) -> Shard:
    """The first rows of one, and then some of the other's."""
    columns = {
        n: np.concatenate([shard.columns[n][:kept], other.columns[n][:planted]]) for n in shard.columns
    }
    return Shard(columns, shard.types, shard.vocabularies)


def test_rows_that_only_the_champions_fingerprints_know_are_left_out_and_counted():
    """What it learned from was replaced by other batches since: nothing but its fingerprints tells."""
    past, new = rows(200), rows(100, seed=1, start=200)
    data = data_of(rows(200, seed=5), data_with(new, 80, past, 20), seen=[True, False])
    champion = champion_of(SPEC, past)
    blocks = Blocks(np.arange(200), NONE, np.flatnonzero(np.isin(data.rows.columns["x"], new.columns["x"])))
    blocks = replace(
        blocks,
        test=np.union1d(blocks.test, np.flatnonzero(np.isin(data.rows.columns["x"], past.columns["x"]))),
    )
    trained = {
        "full": train("full", data_of(rows(200, seed=5)), everything(data_of(rows(200, seed=5))), SPEC, None)
    }
    found = judge(data, blocks, trained, champion, SPEC)
    assert (len(blocks.test), found.evaluation.test_rows, found.rows["left_out"]) == (100, 80, 20)
    assert gate(found, "leak").message == "20 rows of the test block were learned from before: left out"


def test_so_many_known_rows_that_too_few_are_left_refuse_the_promotion_by_name():
    past = rows(200)
    data = data_of(past, rows(100, seed=1, start=200))
    blocks = Blocks(np.arange(200), NONE, np.arange(200, 300))
    trained = {"full": train("full", data, everything(data), SPEC, None)}  # it learned from the test rows
    found = judge(data, blocks, trained, None, SPEC).evaluation
    assert (found.promote, found.test_rows) == (False, 0)
    assert "0 test rows, 20 needed" in found.reason
    assert "100 rows of the test block were learned from before: left out" in found.reason


def test_rows_that_stand_in_the_file_twice_do_not_test_what_learned_from_their_twins():
    """Every row comes twice, the second time later: the twins of the newest rows were learned from."""
    shard = rows(100)
    columns = {n: np.concatenate([values, values]) for n, values in shard.columns.items()}
    twice = Shard(columns, shard.types, shard.vocabularies)
    timeless = replace(SPEC, contract=replace(SPEC.contract, time=None))
    found, blocks = judged(data_of(twice, spec=timeless), None, timeless)
    assert len(blocks.test) == 80
    assert found.evaluation.test_rows == 0
    assert not found.evaluation.promote


def test_a_batch_that_is_the_past_again_in_another_order_is_recognised():
    past = rows(200)
    again = past.take(np.random.default_rng(1).permutation(200))
    data = data_of(past, again, seen=[True, False])
    assert data.seen.all()
    with pytest.raises(
        NotEnoughData, match=r"0 labelled rows are new to the champion \(200 others repeat rows"
    ):
        split(data, SPEC, 1)


def test_the_champions_fingerprints_recognise_a_past_whose_batch_is_gone():
    past = rows(200)
    champion = champion_of(SPEC, past)
    data = assemble([past.take(np.arange(199, -1, -1))], [False], SPEC, champion.fingerprints)
    assert data.seen.all()
    assert data.repeats == 200


def few_values(n=400, seed=0) -> Shard:
    """No time, and 2 x 2 x 2 different rows: equal ones are different people."""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 2, n)
    columns = {
        "x": x.astype(float),
        "c": rng.integers(0, 2, n).astype(np.int32),
        "y": (x ^ (rng.random(n) < 0.1)).astype(float),
    }
    return Shard(columns, {name: ColumnType(KINDS[name]) for name in columns}, {"c": ["a", "b"]})


def test_equal_rows_of_few_values_are_different_people_but_a_whole_batch_again_is_not():
    columns = tuple(column for column in SPEC.contract.columns if column.name != "at")
    spec = replace(SPEC, contract=replace(SPEC.contract, time=None, columns=columns))
    past = few_values()
    champion = champion_of(spec, past)
    data = data_of(past, few_values(seed=1), seen=[True, False], spec=spec)
    found, blocks = judged(data, champion, spec)
    assert found.evaluation.test_rows == len(blocks.test) == 160
    assert (
        "160 test rows equal rows that were learned from, which proves nothing" in gate(found, "leak").message
    )
    again = past.take(np.random.default_rng(1).permutation(400))
    assert data_of(past, again, seen=[True, False], spec=spec).seen.all()


def test_a_champion_that_nobody_knows_the_rows_of_is_named():
    past = rows(200)
    champion = replace(champion_of(SPEC, past), fingerprints=None, name="import-1")
    found, _ = judged(data_of(past, rows(100, seed=1, start=200), seen=[True, False]), champion)
    assert gate(found, "leak").message == "which rows import-1 learned from is not known"


def test_rows_known_to_any_candidate_do_not_choose_between_them():
    past = data_of(rows(200))
    blocks = Blocks(np.arange(100), np.arange(100, 150), np.arange(150, 200))
    honest = train("full", past, blocks, SPEC, None)
    cheat = replace(
        train("full", past, replace(blocks, train=np.arange(130)), SPEC, None), candidate="recent"
    )
    found = judge(past, blocks, {"full": honest, "recent": cheat}, None, SPEC)
    assert found.rows == {"train": 100, "selection": 50, "test": 50, "left_out": 30, "repeats": 0}


# --- the verdict


def test_swapped_labels_are_just_worse():
    past = rows(300)
    swapped = rows(300, seed=1, start=300)
    swapped.columns["y"][:] = 1 - swapped.columns["y"]
    honest = rows(100, seed=2, start=600)
    champion = champion_of(SPEC, past)
    data = data_of(past, swapped, honest, seen=[True, False, False])
    blocks = Blocks(np.arange(300, 600), NONE, np.arange(600, 700))
    found = judge(data, blocks, {"full": train("full", data, blocks, SPEC, None)}, champion, SPEC).evaluation
    assert found.gain < -0.5
    assert not found.promote


class NotFinite:
    """Says nothing that is a number."""

    classes_ = np.array([0, 1])

    def predict_proba(self, frame):
        return np.full((len(frame), 2), np.nan)


def test_predictions_that_are_not_finite_lose_the_choice_and_never_promote():
    data = data_of(rows(300))
    blocks = split(data, training(candidates=("full", "recent")), 2)
    full = train("full", data, blocks, SPEC, None)
    broken = replace(full, candidate="recent", estimator=NotFinite())
    found = judge(data, blocks, {"recent": broken, "full": full}, None, SPEC)
    assert (found.chosen, list(found.selection)) == ("full", ["full"])
    alone = judge(data, blocks, {"recent": broken}, None, SPEC).evaluation
    assert not alone.promote
    assert "not defined on the test rows" in alone.reason


class Strict:
    """Like an encoder that refuses what it has not seen."""

    classes_ = np.array([0, 1])

    def predict_proba(self, frame):
        raise ValueError("found unknown categories ['Ulm'] in column 0")


class OneShort(Strict):
    def predict_proba(self, frame):
        return np.full((len(frame) - 1, 2), 0.5)


@pytest.mark.parametrize(
    ("estimator", "words"),
    [
        (Strict(), "Strict.predict_proba failed: ValueError: found unknown categories (value) in column 0"),
        (OneShort(), "OneShort.predict_proba gave shape (47, 2), not (48, 2)"),
    ],
)
def test_a_candidate_that_cannot_predict_is_told_of_and_the_others_go_on(estimator, words):
    data = data_of(rows(240))
    blocks = split(data, training(candidates=("full", "recent")), 2)
    full = train("full", data, blocks, SPEC, None)
    broken = replace(full, candidate="recent", estimator=estimator)
    found = judge(data, blocks, {"recent": broken, "full": full}, None, SPEC)
    assert (found.chosen, list(found.selection), found.evaluation.promote) == ("full", ["full"], True)
    assert found.candidates["recent"]["failed"].startswith(words)
    assert found.candidates["full"]["failed"] == ""
    with pytest.raises(TrainingError, match="no candidate can predict: recent: "):
        judge(data, blocks, {"recent": broken}, None, SPEC)
    with pytest.raises(TrainingError, match="v1 cannot predict the test rows: "):
        judge(data, blocks, {"full": full}, replace(broken, name="v1", fingerprints=None), SPEC)


def test_the_time_of_one_row_is_the_median_after_a_warm_up():
    """A clock that ticks 2 ms between two looks at it, but in the first five predictions a second."""
    ticks = iter(np.cumsum([0, *([1.0] * 10), *([0.002] * 100)]).tolist())
    found, _ = judged(data_of(rows(200)), None, clock=lambda: next(ticks))
    assert found.evaluation.latency_ms == pytest.approx(2)
    slow = replace(SPEC, gates=replace(SPEC.gates, max_latency_ms=1.0))
    ticks = iter(np.cumsum([0.002] * 200).tolist())
    found, _ = judged(data_of(rows(200)), None, slow, clock=lambda: next(ticks))
    assert not found.evaluation.promote
    assert "milliseconds a row: 2, at most 1 allowed" in found.evaluation.reason


@pytest.mark.parametrize(("limit", "promote"), [(1.0, True), (0.0001, False)])
def test_a_model_that_was_not_stored_is_weighed_where_it_matters(limit, promote):
    spec = replace(SPEC, gates=replace(SPEC.gates, max_megabytes=limit))
    found, _ = judged(data_of(rows(300)), None, spec)
    assert found.evaluation.promote is promote
    assert 0.001 < found.evaluation.megabytes < 0.5
    assert judged(data_of(rows(300)), None)[0].evaluation.megabytes is None


def test_a_refresh_is_the_champions_own_recipe_and_nothing_else(tmp_path):
    champion, data = champion_of(SPEC, rows()), data_of(rows(), rows(seed=1, start=200))

    def made(spec, candidate="full") -> Model:
        return train(candidate, data, everything(data), spec, champion)

    assert refreshes(made(SPEC), champion)
    # What decides, and what competes, is no part of the recipe.
    other_gates = training(replace(SPEC, gates=Gates("accuracy")), candidates=("full", "transfer"))
    assert refreshes(made(other_gates), champion)
    assert not refreshes(made(SPEC), None)
    assert not refreshes(made(SPEC, "recent"), champion)
    assert not refreshes(made(SPEC, "transfer"), replace(champion, candidate="transfer"))
    assert refreshes(made(SPEC, "recent"), replace(champion, candidate="recent"))
    assert not refreshes(made(replace(SPEC, estimator={"max_iter": 6})), champion)
    assert not refreshes(made(training(seed=4)), champion)
    assert not refreshes(made(own(tmp_path, FOREST)), champion)
    nobody_knows = replace(champion, recipe="")  # made before recipes were kept, or imported
    assert not refreshes(made(SPEC), nobody_knows)
    assert not refreshes(replace(made(SPEC), recipe=""), nobody_knows)


def test_a_refresh_may_lose_a_little_and_another_recipe_may_not():
    """The champion knows all that there is to know of this world: nobody gains."""
    champion, data = (
        champion_of(SPEC, rows(2000)),
        data_of(rows(2000), rows(500, 1, 2000), seen=[True, False]),
    )
    blocks = split(data, SPEC, 1)
    trained = {"full": train("full", data, blocks, SPEC, champion)}
    found = judge(data, blocks, trained, champion, SPEC).evaluation
    assert (found.promote, found.refresh) == (True, True)
    assert found.margin == pytest.approx(-0.2 * (found.champion_score - found.baseline_score))
    other = judge(data, blocks, trained, replace(champion, recipe="another"), SPEC).evaluation
    assert (other.promote, other.refresh, other.margin) == (False, False, 0)


def test_each_candidate_is_told_of():
    data = data_of(rows(300))
    spec = training(candidates=("full", "recent"), recent_rows=50)
    blocks = split(data, spec, 2)
    trained = {
        name: replace(train(name, data, blocks, spec, None), name=f"v1-{name}") for name in ("full", "recent")
    }
    told = judge(data, blocks, trained, None, spec).candidates
    assert {name: (each["version"], each["trained_rows"]) for name, each in told.items()} == {
        "full": ("v1-full", 120),
        "recent": ("v1-recent", 50),
    }
    assert all(0 < each["selection_score"] <= 1 for each in told.values())
