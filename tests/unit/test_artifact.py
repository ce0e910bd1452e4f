"""Stored models: exact when read back, refused when altered, too large or able to do more than predict."""

import functools
import io
import json
import os
import subprocess
import warnings
import zipfile

import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge, SGDClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from refit.artifact import ALLOWED_TYPES, MAX_BYTES, MAX_UNPACKED_BYTES, check_sizes, digest, dump, load
from refit.contract import Column, ColumnType, Contract
from refit.errors import ArtifactError
from refit.metrics import Task
from refit.models import Gates, ModelSpec, Training, Triggers
from refit.training import default_estimator

RNG = np.random.default_rng(0)
FRAME = pd.DataFrame({"x": RNG.normal(size=300), "c": pd.Categorical(RNG.choice(["a", "b", "c"], 300))})
FRAME.loc[::7, "x"] = np.nan
TARGET = (FRAME["x"].fillna(0) + (FRAME["c"] == "a") > 0.4).to_numpy().astype(int)


def default() -> object:
    columns = (
        Column("x", ColumnType.NUMBER),
        Column("c", ColumnType.CATEGORY),
        Column("y", ColumnType.BOOLEAN),
    )
    settings = {"max_iter": 10}
    return default_estimator(
        ModelSpec(
            "m", Task.BINARY, Contract(columns, "y"), Triggers(), Gates("roc_auc"), Training(), settings
        )
    )


def linear() -> object:
    numbers = make_pipeline(SimpleImputer(), FunctionTransformer(np.arctan), StandardScaler())
    prepare = ColumnTransformer([("x", numbers, ["x"]), ("c", OneHotEncoder(), ["c"])])
    return make_pipeline(prepare, LogisticRegression())


@pytest.mark.parametrize("make", [default, linear], ids=["boosting", "linear"])
def test_a_model_read_back_predicts_exactly_the_same(make):
    fitted = make().fit(FRAME, TARGET)
    data, sha256 = dump(fitted)
    back = load(data, sha256)
    np.testing.assert_array_equal(back.predict_proba(FRAME), fitted.predict_proba(FRAME))
    assert back.classes_.tolist() == [0, 1]


@pytest.mark.parametrize("make", [HistGradientBoostingRegressor, SGDClassifier, GaussianNB, Ridge])
def test_plain_estimators_can_be_stored(make):
    numbers = FRAME[["x"]].fillna(0)
    few = {"max_iter": 20} if "max_iter" in make().get_params() else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted = make(**few).fit(numbers, TARGET)
    np.testing.assert_array_equal(load(*dump(fitted)).predict(numbers), fitted.predict(numbers))


def test_an_altered_byte_is_noticed_before_anything_is_read():
    data, sha256 = dump(LogisticRegression())
    altered = data[:-1] + bytes([data[-1] ^ 1])
    with pytest.raises(ArtifactError, match=rf"recorded is {sha256[:12]}\.\.\.; restore it"):
        load(altered, sha256)
    with pytest.raises(ArtifactError, match=digest(altered)[:12]):
        load(altered, sha256)


class Custom(LogisticRegression):
    """A class of the model's own: its code would have to come with the file."""


def shout(x):
    return x


@pytest.mark.parametrize(
    ("estimator", "named"),
    [
        (Custom(), "Custom"),
        (FunctionTransformer(lambda x: x), "<lambda>"),
        (FunctionTransformer(shout), "shout"),
        (FunctionTransformer(os.system), "posix.system"),
        (FunctionTransformer(eval), "builtins.eval"),
        (FunctionTransformer(subprocess.run), "subprocess.run"),
        (FunctionTransformer(str.upper), "method_descriptor"),
        (FunctionTransformer([1].append), "append"),
    ],
)
def test_what_is_outside_the_allow_list_is_refused_at_writing_and_named(estimator, named):
    with pytest.raises(ArtifactError) as caught:
        dump(estimator)
    assert named in str(caught.value)


@pytest.fixture
def marker(tmp_path):
    """A file that exists as soon as a command from within an artifact has been run."""
    path = tmp_path / "was-run"
    yield path
    assert not path.exists(), "the artifact ran a command"


def refused(data: bytes) -> str:
    with pytest.raises(ArtifactError) as caught:
        load(data, digest(data))
    return str(caught.value)


def partials(marker) -> dict:
    touch = functools.partial(os.system, f"touch {marker}")
    return {
        "alone": touch,
        "of a partial": functools.partial(functools.partial, touch),
        "as a keyword": functools.partial(np.add, where=touch),
        "in a transformer": make_pipeline(FunctionTransformer(touch), LogisticRegression()),
        "in an attribute": functools.partial(np.add),
        "of eval": functools.partial(eval, f"__import__('os').system('touch {marker}')"),
        "of a call": functools.partial(subprocess.call, ["touch", str(marker)]),
        "of open": functools.partial(open, str(marker), "w"),
    }


@pytest.mark.parametrize("where", list(partials("x")))
def test_a_partial_of_a_dangerous_function_is_refused(where, marker):
    """`functools.partial` is on the allow-list only because what it holds must be on a list, too."""
    assert "functools.partial" in ALLOWED_TYPES
    held = partials(marker)[where]
    if where == "in an attribute":
        held.hidden = os.system
    data = skops.io.dumps(held)
    assert "functools.partial" in skops.io.get_untrusted_types(data=data)
    message = refused(data)
    assert "types that are not allowed" in message
    assert "functools.partial" not in message, "the partial itself is allowed; what it holds is not"
    assert any(f in message for f in ("posix.system", "builtins.eval", "subprocess.call", "open"))


def test_the_same_artifact_runs_what_it_holds_where_everything_is_trusted(tmp_path):
    """The proof that the files above are loaded guns: skops itself, told to trust, builds the partial."""
    data = skops.io.dumps(functools.partial(os.system, f"touch {tmp_path / 'was-run'}"))
    loaded = skops.io.loads(data, trusted=skops.io.get_untrusted_types(data=data))
    assert loaded.func is os.system
    loaded()
    assert (tmp_path / "was-run").exists()


def test_a_partial_of_allowed_things_is_read():
    data = skops.io.dumps(functools.partial(np.add, 1))
    assert load(data, digest(data))(2) == 3


def forged(document: dict) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("schema.json", json.dumps(document))
    return buffer.getvalue()


def node(loader: str, path: str, **more) -> dict:
    module, _, name = path.rpartition(".")
    return {"__loader__": loader, "__module__": module, "__class__": name, "__id__": id(loader), **more}


def text(value: str) -> dict:
    return node("JsonNode", "builtins.str", content=json.dumps(value), is_json=True)


def forgeries(marker) -> dict:
    """Files that no dump would write: they claim an allowed name and hold something else."""
    command = node("TupleNode", "builtins.tuple", content=[text(f"touch {marker}")])
    nothing = node(
        "DictNode", "builtins.dict", key_types=node("ListNode", "builtins.list", content=[]), content={}
    )
    lie = {"content": {"module_path": "os", "function": "system"}}
    system = node("FunctionNode", "os.system")
    allowed = "sklearn.utils.validation.check_array"

    def partial(func: dict) -> dict:
        content = {"func": func, "args": command, "kwds": nothing, "namespace": nothing}
        return node("PartialNode", "functools.partial", content=content)

    return {
        "function": {"protocol": 2, **partial(system)},
        "type": {"protocol": 2, **partial(node("TypeNode", "os.system"))},
        "old function that claims an allowed name": {
            "protocol": 0,
            **partial(node("FunctionNode", allowed, **lie)),
        },
        "constructor": {"protocol": 2, **node("ConstructorFromReduceNode", "os.system", content=command)},
        "constructor of a partial": {
            "protocol": 2,
            **node(
                "ConstructorFromReduceNode",
                "functools.partial",
                content=node("TupleNode", "builtins.tuple", content=[system, text("x")]),
            ),
        },
        "method of an allowed object": {
            "protocol": 2,
            **partial(
                node(
                    "MethodNode",
                    "sklearn.linear_model._logistic.LogisticRegression",
                    content={
                        "func": "__reduce_ex__",
                        "obj": node("ObjectNode", "sklearn.linear_model._logistic.LogisticRegression"),
                    },
                )
            ),
        },
        "operator": {"protocol": 2, **node("OperatorFuncNode", "operator.methodcaller", attrs=command)},
        "default factory": {
            "protocol": 2,
            **node(
                "DefaultDictNode",
                "collections.defaultdict",
                content={"main": nothing, "default_factory": system},
            ),
        },
        "list of another class": {"protocol": 2, **node("ListNode", "os.system", content=[text("x")])},
        "unknown loader": {"protocol": 2, **node("EvalNode", "functools.partial")},
        "newer protocol": {"protocol": 99, **partial(system)},
    }


@pytest.mark.parametrize("kind", list(forgeries("x")))
def test_a_forged_file_is_refused(kind, marker):
    """What a file says of itself decides nothing."""
    document = forgeries(marker)[kind]
    message = refused(forged(document))
    if kind not in ("unknown loader", "newer protocol"):
        assert "types that are not allowed" in message


def test_a_file_of_many_megabytes_is_not_even_opened():
    with pytest.raises(ArtifactError, match=f"has {MAX_BYTES + 1} bytes, at most {MAX_BYTES}"):
        check_sizes(bytes(MAX_BYTES + 1))


def test_a_file_that_would_unpack_beyond_the_limit_is_refused_by_its_directory():
    """skops would unpack it all. Two members of which each alone would be fine; sizes are forged."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("schema.json", "weights.npy"):
            archive.writestr(name, "{}")
        for member in archive.infolist():
            member.file_size = MAX_UNPACKED_BYTES // 2 + 1
    data = buffer.getvalue()
    check = MAX_UNPACKED_BYTES + 2
    with pytest.raises(ArtifactError, match=f"unpacks to {check} bytes, at most {MAX_UNPACKED_BYTES}"):
        load(data, digest(data))


WHOLE = skops.io.dumps(LogisticRegression())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80\x04K\x01.",  # a pickle
        WHOLE[:100],
        WHOLE[:-22],
        forged({}),
        forged([]),
        forged({"protocol": 2}),
        WHOLE.replace(b"schema.json", b"another.txt"),
        # says in its directory that another version of zip is needed to read it
        (at := WHOLE.index(b"PK\x01\x02")) and WHOLE[: at + 6] + b"\xff" + WHOLE[at + 7 :],
    ],
)
def test_bytes_that_are_no_model_are_refused_as_that(data):
    assert "cannot be read" in (message := refused(data)) or "no skops file" in message


def test_an_artifact_is_named_by_its_sha256():
    assert digest(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
