"""What `make build` leaves fits Lambda and runs on its Python. Run by `make test-build`, not by `make test`."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from samtranslator.yaml_helper import yaml_parse

ROOT = Path(__file__).parents[2]
BUILD = ROOT / ".aws-sam/build"
HARD_LIMIT = 262_144_000  # bytes unzipped, function and layers together
OUR_LIMIT = 255_000_000  # leaves room for what people's own models add

SOURCE = yaml_parse((ROOT / "template.yaml").read_text())["Resources"]
FUNCTIONS = [name for name, resource in SOURCE.items() if resource["Type"] == "AWS::Serverless::Function"]
LAYERS = [name for name, resource in SOURCE.items() if resource["Type"] == "AWS::Serverless::LayerVersion"]


@pytest.fixture(scope="session")
def template():
    path = BUILD / "template.yaml"
    assert path.exists(), "run `make build` first"
    return yaml_parse(path.read_text())


@pytest.fixture(scope="session")
def python313():
    return subprocess.run(
        [ROOT / "scripts/python313"], check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture(scope="session")
def runtime():
    """What Lambda's python3.13 brings along: boto3 and what it needs, in the locked versions."""
    wanted = {"boto3", "botocore", "jmespath", "python-dateutil", "s3transfer", "six", "urllib3"}
    lock = (ROOT / "requirements/dev.txt").read_text()
    blocks = re.findall(r"^(\S+)(==.*(?:\n .*)+)", lock, re.M)
    folder = ROOT / "build/runtime"
    folder.mkdir(parents=True, exist_ok=True)
    requirements = folder.with_suffix(".txt")
    requirements.write_text("\n".join(name + rest for name, rest in blocks if name in wanted) + "\n")
    uv = [ROOT / ".venv-sam/bin/uv", "pip", "install", "--quiet", "--python", ROOT / ".venv-sam/bin/python"]
    target = [
        "--python-version",
        "3.13",
        "--target",
        folder,
        "--require-hashes",
        "--no-deps",
        "-r",
        requirements,
    ]
    subprocess.run([*uv, *target], check=True)
    return folder


@pytest.fixture(scope="session")
def on_lambda(template, python313, runtime):
    """Run code as the function would: its own files, its layers, the runtime's boto3, no site-packages."""

    def setting(value) -> str:
        """A parameter's default; the name stands in for what exists only once deployed."""
        if isinstance(value, dict):
            name = str(next(iter(value.values())))
            return str(template["Parameters"].get(name, {}).get("Default", name))
        return value

    def run(name: str, code: str) -> str:
        function = template["Resources"][name]["Properties"]
        path = [BUILD / name, *(BUILD / layer["Ref"] / "python" for layer in function["Layers"]), runtime]
        settings = template["Globals"]["Function"]["Environment"]["Variables"]
        settings = settings | function.get("Environment", {}).get("Variables", {})
        settings = {key: setting(value) for key, value in settings.items()}
        result = subprocess.run(
            [
                python313,
                "-I",
                "-S",
                "-B",
                "-c",
                f"import sys; sys.path[:0] = {[str(p) for p in path]}\n{code}",
            ],
            capture_output=True,
            text=True,
            timeout=120,
            env={
                "PATH": os.defpath,
                "AWS_REGION": "us-east-1",
                "AWS_DEFAULT_REGION": "us-east-1",
                **settings,
            },
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    return run


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function_and_its_layers_fit(name, template):
    layers = [layer["Ref"] for layer in template["Resources"][name]["Properties"]["Layers"]]
    sizes = {part: size(BUILD / part) for part in [name, *layers]}
    assert all(sizes.values()), sizes
    assert len(layers) <= 5
    assert sum(sizes.values()) <= HARD_LIMIT, sizes
    assert sum(sizes.values()) <= OUR_LIMIT, sizes


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function_runs_on_the_runtime_that_everything_was_built_for(name, template):
    """The linters let an unknown runtime pass."""
    function = {**template["Globals"]["Function"], **template["Resources"][name]["Properties"]}
    assert function["Runtime"] == "python3.13"
    assert function["Architectures"] == ["x86_64"]
    assert function["CodeUri"] == name


@pytest.mark.parametrize("name", LAYERS)
def test_layer_is_made_for_that_runtime(name, template):
    layer = template["Resources"][name]["Properties"]
    assert layer["CompatibleRuntimes"] == ["python3.13"]
    assert layer["CompatibleArchitectures"] == ["x86_64"]
    assert layer["ContentUri"] == name
    assert [path.name for path in (BUILD / name).iterdir()] == ["python"]


@pytest.mark.parametrize("name", FUNCTIONS + LAYERS)
def test_every_module_has_bytecode_that_is_never_checked(name, python313, template):
    magic = subprocess.run(
        [python313, "-c", "import importlib.util as u; print(u.MAGIC_NUMBER.hex())"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    sources = [path for path in (BUILD / name).rglob("*.py")]
    expected = {path.parent / "__pycache__" / f"{path.stem}.cpython-313.pyc" for path in sources}
    assert set((BUILD / name).rglob("*.pyc")) == expected
    for path in expected:
        with path.open("rb") as file:
            assert file.read(8).hex() == magic + "01000000", path  # unchecked hash


@pytest.mark.parametrize("name", LAYERS)
def test_native_code_is_for_lambda(name, template):
    """Lambda's processor, and Python's ABI where a module names one."""
    for path in (BUILD / name).rglob("*.so*"):
        header = path.open("rb").read(20)
        assert header[:5] == b"\x7fELF\x02" and header[18:20] == b"\x3e\x00", path
        assert ".cpython-" not in path.name or ".cpython-313-x86_64-linux-gnu" in path.name, path


@pytest.mark.parametrize("name", FUNCTIONS)
def test_handler_imports(name, template, on_lambda):
    module, handler = template["Resources"][name]["Properties"]["Handler"].split(".")
    on_lambda(name, f"import {module}; assert callable({module}.{handler})")


def importing(layer: str) -> str:
    return next(name for name in FUNCTIONS if {"Ref": layer} in SOURCE[name]["Properties"]["Layers"])


def test_ml_layer_stores_and_loads_what_it_fits(on_lambda):
    code = """
import numpy as np, pandas as pd, sklearn, skops.io
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import SGDClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder, StandardScaler
rng = np.random.default_rng(0)
X = pd.DataFrame({"a": rng.normal(size=400), "b": rng.normal(size=400), "c": rng.choice(["x", "y"], size=400)})
y = (X.a + (X.c == "x") > 0).astype(int)
columns = make_column_transformer((OrdinalEncoder(), ["c"]), (StandardScaler(), ["a", "b"]))
for estimator in HistGradientBoostingClassifier(max_iter=20), SGDClassifier(loss="log_loss", random_state=0):
    fitted = make_pipeline(columns, estimator).fit(X, y)
    trusted = ["numpy.dtype", "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"]
    loaded = skops.io.loads(skops.io.dumps(fitted), trusted=trusted)
    assert (loaded.predict_proba(X) == fitted.predict_proba(X)).all()
    print(fitted.score(X, y))
print(sklearn.__file__)
"""
    *scores, path = on_lambda(importing("MlLayer"), code).split()
    assert all(float(score) > 0.8 for score in scores)
    assert path.startswith(str(BUILD / "MlLayer"))


def test_arrow_layer_reads_what_it_writes(on_lambda):
    code = """
import io, sys
import pyarrow as pa, pyarrow.csv, pyarrow.parquet as pq
table = pa.table({
    "number": [1.5, None], "text": pa.array(["a", "b"]).dictionary_encode(),
    "time": pa.array([0, 1], pa.timestamp("us", "UTC")), "day": pa.array([0, 1], pa.date32()),
})
for codec in "snappy", "zstd", "gzip", "brotli", "lz4":
    file = io.BytesIO()
    pq.write_table(table, file, compression=codec)
    assert pq.ParquetFile(io.BytesIO(file.getvalue()), read_dictionary=["text"]).read().equals(table)
with pa.CompressedInputStream(io.BytesIO(__import__("gzip").compress(b"a,b\\n1,x\\n")), "gzip") as csv:
    assert pa.csv.read_csv(csv).to_pydict() == {"a": [1], "b": ["x"]}
assert "pandas" not in sys.modules
print(pa.__file__)
"""
    assert on_lambda(importing("ArrowLayer"), code).startswith(str(BUILD / "ArrowLayer"))


def test_plot_layer_draws(on_lambda):
    code = """
import sys
from refit import plots
rows = [{"name": "all rows $ <b>", "value": 0.02, "low": 0.01, "high": 0.03, "whole": True}]
svg = plots.forest("gain", "Gain", "gain in roc_auc", rows, {"no gain": 0.0})
assert svg.startswith("<svg") and "&lt;b&gt;" in svg
assert not {"pandas", "scipy", "sklearn", "pyarrow"} & set(sys.modules)
import matplotlib
print(matplotlib.__file__)
"""
    assert on_lambda(importing("PlotLayer"), code).startswith(str(BUILD / "PlotLayer"))


@pytest.mark.parametrize("name", LAYERS)
def test_installed_versions_are_known(name, python313):
    """importlib.metadata finds every locked package: scikit-learn's and skops' checks rest on it."""
    lock = next((ROOT / "layers").glob(f"{name.removesuffix('Layer').lower()}/requirements.txt"), None)
    locked = dict(re.findall(r"^([a-z0-9._-]+)==(\S+)", lock.read_text(), re.M)) if lock else {}
    code = f"import json; from importlib.metadata import distributions as d; print(json.dumps({{x.name: x.version for x in d(path=[{str(BUILD / name / 'python')!r}])}}))"
    out = subprocess.run(
        [python313, "-I", "-S", "-c", code], check=True, capture_output=True, text=True
    ).stdout
    normal = {re.sub(r"[-_.]+", "-", key).lower(): version for key, version in json.loads(out).items()}
    assert normal == locked
