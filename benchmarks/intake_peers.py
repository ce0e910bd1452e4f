"""The peers' lines of benchmarks/intake.py; each runs in a process of its own in .venv-bench.

    .venv-bench/bin/python benchmarks/intake_peers.py LINE FOLDER ROWS REFERENCE_ROWS

What a peer needs of the reference is made before the clock starts where it can be kept, as Refit's profile is; so is the table of
the reference where only the rows will do.
"""

from __future__ import annotations

import itertools
import json
import math
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from intake_lines import Job, measure

SHARES = [0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99]  # quantiles of the profile
DISTINCT_TOLERANCE = 1.1  # of estimated numbers of distinct values


def psi(before: Sequence[float], after: Sequence[float]) -> float:
    """Population stability index of counts in the same bins."""
    n, m, k = sum(before), sum(after), len(before)
    pairs = (
        ((a + 0.5) / (n + 0.5 * k), (b + 0.5) / (m + 0.5 * k)) for a, b in zip(before, after, strict=True)
    )
    return sum((q - p) * math.log(q / p) for p, q in pairs)


def judged(rules: Mapping[str, dict], reference: dict | None, found: dict[str, Any], rows: int) -> dict:
    """Verdict and drift from what a query has counted: `<column>.nulls`, `.outside`, `.unlisted`, `.distinct`, `.bins`, `.words`."""
    broken, drifted = [], []
    for name, rule in rules.items():
        if found[f"{name}.nulls"] > rule["nulls"] * rows:
            broken.append(f"{name}: nulls")
        if found.get(f"{name}.outside") or found.get(f"{name}.unlisted"):
            broken.append(f"{name}: values")
        if found.get(f"{name}.distinct", 0) > rule.get("max_categories", math.inf) * DISTINCT_TOLERANCE:
            broken.append(f"{name}: categories")
        before = reference["columns"].get(name, {}) if reference else {}
        if "edges" in before:
            total = rows - found[f"{name}.nulls"]
            upto = [0, *found[f"{name}.bins"], total]  # rows at or below each edge
            after = [b - a for a, b in itertools.pairwise(upto)]
            if psi(before["counts"], after) > 0.1:
                drifted.append(name)
        elif "words" in before:
            words = found[f"{name}.words"]
            every = {*before["words"], *words}
            if psi([before["words"].get(w, 0) for w in every], [words.get(w, 0) for w in every]) > 0.1:
                drifted.append(name)
    if broken:
        raise SystemExit(f"the benchmark's own file was not accepted: {broken}")
    return {"rows": rows, "nulls": sum(found[f"{name}.nulls"] for name in rules), "drifted": drifted}


def _rules(job: Job) -> dict[str, dict]:
    return json.loads((job.folder / "rules.json").read_text())


def _reference(job: Job) -> dict:
    return json.loads(job.counts.read_text())


# polars: lazy scan, streaming engine. Of its ways to count bins and to take quantiles, the fastest.


def polars_checks(job: Job) -> dict:
    return _polars(job, "parquet", profile=False)


def polars_all(job: Job) -> dict:
    return _polars(job, "parquet", profile=True, quantiles=True)


def polars_no_quantiles(job: Job) -> dict:
    return _polars(job, "parquet", profile=True)


def polars_csv(job: Job) -> dict:
    return _polars(job, "csv", profile=True, quantiles=True)


def _polars(job: Job, kind: str, profile: bool, quantiles: bool = False) -> dict:
    import polars as pl

    rules = _rules(job)
    if kind == "csv":
        types: dict[str, Any] = {"number": pl.Float64, "integer": pl.Int64, "category": pl.String}
        types |= {"timestamp": pl.Datetime("us", "UTC"), "boolean": pl.Boolean}
        schema = {name: types[rule["type"]] for name, rule in rules.items()}
        frame = pl.scan_csv(job.csv, schema=schema)
    else:
        frame = pl.scan_parquet(job.parquet)
        kinds = {"number": pl.Float64, "integer": pl.Int64, "category": pl.String, "boolean": pl.Boolean}
        for name, have in frame.collect_schema().items():
            wanted = kinds.get(rules[name]["type"])
            if wanted is not None and have != wanted:
                raise SystemExit(f"{name}: {have}")
    reference = _reference(job) if profile else None
    asked = [pl.len().alias("rows")]
    grouped = []
    for name, rule in rules.items():
        column = pl.col(name)
        asked.append(column.null_count().alias(f"{name}.nulls"))
        if "min" in rule:
            outside = (column < rule["min"]) | (column > rule["max"])
            asked.append(outside.sum().alias(f"{name}.outside"))
        if "categories" in rule:
            unlisted = ~column.is_in(rule["categories"])
            asked.append(unlisted.sum().alias(f"{name}.unlisted"))
        if "max_categories" in rule and not profile:
            asked.append(column.approx_n_unique().alias(f"{name}.distinct"))
        if profile and rule["type"] in ("number", "integer"):
            asked += [
                column.mean().alias(f"{name}.mean"),
                column.std().alias(f"{name}.std"),
                column.min().alias(f"{name}.min"),
                column.max().alias(f"{name}.max"),
                column.approx_n_unique().alias(f"{name}.distinct"),
            ]
            if quantiles:
                asked.append(column.quantile(SHARES).alias(f"{name}.quantiles"))
            for number, edge in enumerate(reference["columns"].get(name, {}).get("edges", ())):  # type: ignore[index]
                asked.append((column <= edge).sum().alias(f"{name}.bin{number}"))
        if profile and rule["type"] == "category":
            grouped.append(frame.group_by(name).len())
        if profile and rule["type"] == "timestamp":
            asked += [column.min().alias(f"{name}.min"), column.max().alias(f"{name}.max")]
        if profile and rule["type"] == "boolean":
            asked.append(column.sum().alias(f"{name}.true"))
    answer, *counted = pl.collect_all([frame.select(asked), *grouped], engine="streaming")
    found = answer.row(0, named=True)
    _gather_bins(found, rules)
    for table in counted:
        name = table.columns[0]
        found[f"{name}.words"] = dict(table.drop_nulls().iter_rows())
        found[f"{name}.distinct"] = len(found[f"{name}.words"])
    return judged(rules, reference, found, found["rows"])


def _gather_bins(found: dict[str, Any], rules: Mapping[str, dict]) -> None:
    for name in rules:
        numbers = [key for key in found if key.startswith(f"{name}.bin")]
        found[f"{name}.bins"] = [found[f"{name}.bin{i}"] for i in range(len(numbers))]


# duckdb: one query of aggregates, one for each category's counts. countif, for FILTER takes ten times as long.


def duckdb_checks(job: Job) -> dict:
    return _duckdb(job, "parquet", profile=False)


def duckdb_all(job: Job) -> dict:
    return _duckdb(job, "parquet", profile=True, quantiles=True)


def duckdb_no_quantiles(job: Job) -> dict:
    return _duckdb(job, "parquet", profile=True)


def duckdb_csv(job: Job) -> dict:
    return _duckdb(job, "csv", profile=True, quantiles=True)


def _duckdb(job: Job, kind: str, profile: bool, quantiles: bool = False) -> dict:
    import duckdb

    rules, reference = _rules(job), _reference(job) if profile else None
    types = {"number": "DOUBLE", "integer": "BIGINT", "category": "VARCHAR", "boolean": "BOOLEAN"}
    types["timestamp"] = "TIMESTAMP WITH TIME ZONE"
    source = f"read_parquet('{job.parquet}')"
    if kind == "csv":
        columns = ", ".join(f"'{name}': '{types[rule['type']]}'" for name, rule in rules.items())
        source = f"read_csv('{job.csv}', header=true, columns={{{columns}}})"
    session = duckdb.connect()
    session.execute("SET threads = 2")
    have = dict(
        session.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()[i][:2] for i in range(len(rules))
    )
    for name, rule in rules.items():
        if have[name] != types[rule["type"]]:
            raise SystemExit(f"{name}: {have[name]}")
    asked = {"rows": "count(*)"}
    for name, rule in rules.items():
        column = f'"{name}"'
        asked[f"{name}.nulls"] = f"count(*) - count({column})"
        if "min" in rule:
            outside = f"{column} < {rule['min']} OR {column} > {rule['max']}"
            asked[f"{name}.outside"] = f"countif({outside})"
        if "categories" in rule:
            listed = ", ".join(f"'{word}'" for word in rule["categories"])
            asked[f"{name}.unlisted"] = f"countif({column} NOT IN ({listed}))"
        if "max_categories" in rule and not profile:
            asked[f"{name}.distinct"] = f"approx_count_distinct({column})"
        if profile and rule["type"] in ("number", "integer"):
            asked[f"{name}.mean"], asked[f"{name}.std"] = f"avg({column})", f"stddev({column})"
            asked[f"{name}.min"], asked[f"{name}.max"] = f"min({column})", f"max({column})"
            asked[f"{name}.distinct"] = f"approx_count_distinct({column})"
            if quantiles:
                asked[f"{name}.quantiles"] = f"approx_quantile({column}, {SHARES})"
            for number, edge in enumerate(reference["columns"].get(name, {}).get("edges", ())):  # type: ignore[index]
                asked[f"{name}.bin{number}"] = f"countif({column} <= {edge!r})"
        if profile and rule["type"] == "timestamp":
            asked[f"{name}.min"], asked[f"{name}.max"] = (
                f"epoch_us(min({column}))",
                f"epoch_us(max({column}))",
            )
        if profile and rule["type"] == "boolean":
            asked[f"{name}.true"] = f"countif({column})"
    values = session.execute(f"SELECT {', '.join(asked.values())} FROM {source}").fetchone()
    found = dict(zip(asked, values, strict=True))
    _gather_bins(found, rules)
    if profile:
        for name, rule in rules.items():
            if rule["type"] == "category":
                query = f"SELECT {name}, count(*) FROM {source} WHERE {name} IS NOT NULL GROUP BY ALL"
                found[f"{name}.words"] = dict(session.execute(query).fetchall())
                found[f"{name}.distinct"] = len(found[f"{name}.words"])
    return judged(rules, reference, found, found["rows"])


# Those that work on a DataFrame; reading the file is part of the work, for there is no other way in.


def _frame(job: Job) -> Any:
    import pandas as pd

    return pd.read_parquet(job.parquet)


def pandera_checks(job: Job) -> dict:
    import pandera.pandas as pa

    columns = {}
    types = {"number": "float64", "integer": "int64", "category": "object", "boolean": "bool"}
    for name, rule in _rules(job).items():
        checks = [pa.Check(lambda s, most=rule["nulls"]: s.isna().mean() <= most, ignore_na=False)]
        if "min" in rule:
            checks.append(pa.Check.in_range(rule["min"], rule["max"]))
        if "categories" in rule:
            checks.append(pa.Check.isin(rule["categories"]))
        if "max_categories" in rule:
            checks.append(pa.Check(lambda s, most=rule["max_categories"]: s.nunique() <= most))
        columns[name] = pa.Column(types.get(rule["type"]), checks, nullable=True)
    frame = pa.DataFrameSchema(columns, strict=True).validate(_frame(job), lazy=True)
    return {"rows": len(frame)}


def pandera_polars_checks(job: Job) -> dict:
    import pandera.polars as pa
    import polars as pl

    columns = {}
    types = {"number": pl.Float64, "integer": pl.Int64, "category": pl.String, "boolean": pl.Boolean}
    types["timestamp"] = pl.Datetime("us", "UTC")

    def few_nulls(most: float) -> Callable:
        return lambda data: data.lazyframe.select(pl.col(data.key).is_null().mean() <= most)

    def few_words(most: int) -> Callable:
        return lambda data: data.lazyframe.select(pl.col(data.key).n_unique() <= most)

    for name, rule in _rules(job).items():
        checks = [pa.Check(few_nulls(rule["nulls"]), ignore_na=False)]
        if "min" in rule:
            checks.append(pa.Check.in_range(rule["min"], rule["max"]))
        if "categories" in rule:
            checks.append(pa.Check.isin(rule["categories"]))
        if "max_categories" in rule:
            checks.append(pa.Check(few_words(rule["max_categories"])))
        columns[name] = pa.Column(types[rule["type"]], checks, nullable=True)
    frame = pa.DataFrameSchema(columns, strict=True).validate(pl.read_parquet(job.parquet), lazy=True)
    return {"rows": len(frame)}


def great_expectations_checks(job: Job) -> dict:
    import great_expectations as gx
    from great_expectations import expectations as expect

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    suite = gx.ExpectationSuite(name="intake")
    types = {"number": "float64", "integer": "int64", "category": "str", "boolean": "bool"}
    for name, rule in _rules(job).items():
        suite.add_expectation(expect.ExpectColumnValuesToNotBeNull(column=name, mostly=1 - rule["nulls"]))
        if rule["type"] in types:
            suite.add_expectation(expect.ExpectColumnValuesToBeOfType(column=name, type_=types[rule["type"]]))
        if "min" in rule:
            suite.add_expectation(
                expect.ExpectColumnValuesToBeBetween(
                    column=name, min_value=rule["min"], max_value=rule["max"]
                )
            )
        if "categories" in rule:
            suite.add_expectation(
                expect.ExpectColumnValuesToBeInSet(column=name, value_set=rule["categories"])
            )
        if "max_categories" in rule:
            suite.add_expectation(
                expect.ExpectColumnUniqueValueCountToBeBetween(
                    column=name, min_value=1, max_value=rule["max_categories"]
                )
            )
    asset = context.data_sources.add_pandas("pandas").add_dataframe_asset("upload")
    frame = _frame(job)
    batch = asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": frame})
    result = batch.validate(suite, result_format="BOOLEAN_ONLY")
    if not result.success:
        failed = [r.expectation_config.to_json_dict() for r in result.results if not r.success]
        raise SystemExit(f"the benchmark's own file was not accepted: {str(failed)[:500]}")
    return {"rows": len(frame)}


_KEPT: dict[str, Any] = {}  # made before the clock starts


def _drift_columns(job: Job) -> tuple[list[str], list[str]]:
    """Numbers and categories that are compared: all but the key and the time."""
    kinds = {name: rule["type"] for name, rule in _rules(job).items() if name != "i_key"}
    numbers = [name for name, kind in kinds.items() if kind in ("number", "integer")]
    return numbers, [name for name, kind in kinds.items() if kind in ("category", "boolean")]


def evidently_before(job: Job) -> None:
    _KEPT["reference"] = _evidently_data(job, job.reference)


def _evidently_data(job: Job, path: Any) -> Any:
    import pandas as pd
    from evidently import DataDefinition, Dataset

    numbers, categories = _drift_columns(job)
    definition = DataDefinition(numerical_columns=numbers, categorical_columns=categories)
    frame = pd.read_parquet(path, columns=[*numbers, *categories])
    return Dataset.from_pandas(frame, data_definition=definition)


def evidently_drift(job: Job) -> dict:
    from evidently import Report
    from evidently.presets import DataDriftPreset

    batch = _evidently_data(job, job.parquet)
    Report([DataDriftPreset()]).run(batch, _KEPT["reference"]).dict()
    return {"rows": job.rows}


def evidently_profile(job: Job) -> dict:
    from evidently import Report
    from evidently.presets import DataDriftPreset, DataSummaryPreset

    batch = _evidently_data(job, job.parquet)
    Report([DataSummaryPreset(), DataDriftPreset()]).run(batch, _KEPT["reference"]).dict()
    return {"rows": job.rows}


def nannyml_before(job: Job) -> None:
    import nannyml
    import pandas as pd

    numbers, categories = _drift_columns(job)
    _KEPT["calculator"] = nannyml.UnivariateDriftCalculator(
        column_names=[*numbers, *categories], treat_as_categorical=categories, chunk_size=job.rows
    ).fit(pd.read_parquet(job.reference, columns=[*numbers, *categories]))


def nannyml_drift(job: Job) -> dict:
    import pandas as pd

    numbers, categories = _drift_columns(job)
    batch = pd.read_parquet(job.parquet, columns=[*numbers, *categories])
    _KEPT["calculator"].calculate(batch).to_df()
    return {"rows": len(batch)}


def whylogs_before(job: Job) -> None:
    import numpy as np

    np.unicode_ = np.str_  # whylogs asks numpy 2 for names that only numpy 1 had


def whylogs_profile(job: Job) -> dict:
    import whylogs

    frame = _frame(job)
    whylogs.log(pandas=frame).profile().view().to_pandas()
    return {"rows": len(frame)}


LINES: dict[str, tuple[Callable[[Job], dict], tuple[str, ...]]] = {
    "polars-checks": (polars_checks, ("polars",)),
    "polars-no-quantiles": (polars_no_quantiles, ("polars",)),
    "polars": (polars_all, ("polars",)),
    "polars-csv": (polars_csv, ("polars",)),
    "duckdb-checks": (duckdb_checks, ("duckdb",)),
    "duckdb": (duckdb_all, ("duckdb",)),
    "duckdb-no-quantiles": (duckdb_no_quantiles, ("duckdb",)),
    "duckdb-csv": (duckdb_csv, ("duckdb",)),
    "pandera": (pandera_checks, ("pandera.pandas", "pyarrow.parquet")),
    "pandera-polars": (pandera_polars_checks, ("pandera.polars",)),
    "great-expectations": (great_expectations_checks, ("great_expectations", "pyarrow.parquet")),
    "evidently": (evidently_profile, ("evidently.presets", "pyarrow.parquet")),
    "evidently-drift": (evidently_drift, ("evidently.presets", "pyarrow.parquet")),
    "nannyml": (nannyml_drift, ("nannyml", "pyarrow.parquet")),
    "whylogs": (whylogs_profile, ("whylogs", "pyarrow.parquet")),
}
BEFORE = {
    "evidently": evidently_before,
    "evidently-drift": evidently_before,
    "nannyml": nannyml_before,
    "whylogs": whylogs_before,
}

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    measure(LINES, sys.argv[1:], BEFORE.get(sys.argv[1]))
