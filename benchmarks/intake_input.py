"""The input of benchmarks/intake.py: 22 columns, built block by block from a seed.

Row n is the same in every file of a seed, however many rows the file has.

    .venv/bin/python benchmarks/intake_input.py FOLDER ROWS REFERENCE_ROWS    # what is missing
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

SMALL = 1_000
BLOCK = 250_000  # rows drawn at once
ROW_GROUP = 1_000_000
SEED, REFERENCE_SEED = 22, 23
MOST_CSV_ROWS = 1_000_000
CARDINALITIES = {"c_tiny": 5, "c_small": 100, "c_large": 5_000, "c_huge": 100_000}
NUMBERS = {  # how they are drawn, the share of nulls, and the range that the contract allows
    "f_normal": (lambda g, n: g.normal(size=n), 0.001, (-8, 8)),
    "f_shifted": (lambda g, n: 1_000 + 15 * g.normal(size=n), 0.01, (800, 1_200)),
    "f_skewed": (lambda g, n: g.lognormal(3, 1, n), 0.02, (0, 1e6)),
    "f_waiting": (lambda g, n: g.exponential(40, n), 0.05, (0, 1e5)),
    "f_share": (lambda g, n: g.beta(2, 5, n), 0.0005, (0, 1)),
    "f_heavy": (lambda g, n: g.standard_t(3, n), 0.1, (-1e9, 1e9)),
    "f_price": (lambda g, n: np.round(g.gamma(2, 30, n), 2), 0.03, (0, 1e5)),
    "f_rain": (lambda g, n: g.exponential(2, n) * (g.random(n) < 0.2), 0.2, (0, 1e3)),
    "f_degrees": (lambda g, n: np.round(g.uniform(-20, 40, n), 1), 0.004, (-60, 60)),
    "f_modes": (lambda g, n: g.normal(size=n) + 6 * (g.random(n) < 0.3), 0.06, (-10, 20)),
}
INTEGERS = {
    "i_hour": (lambda g, n: g.integers(0, 24, n), (0, 23)),
    "i_count": (lambda g, n: g.poisson(3, n), (0, 1_000)),
    "i_amount": (lambda g, n: g.integers(0, 1_000_000, n), (0, 1_000_000)),
    "i_balance": (lambda g, n: (g.normal(size=n) * 5e4).astype(np.int64), (-(10**6), 10**6)),
    "i_stock": (lambda g, n: g.geometric(0.01, n), (0, 100_000)),
}
KEY = "i_key"  # the sixth integer names a row
COLUMNS = (*NUMBERS, *INTEGERS, KEY, *CARDINALITIES, "at", "label")


def words(name: str) -> list[str]:
    """All words of a category, the frequent ones first."""
    return [f"{name[2:]}-{code:06d}" for code in range(CARDINALITIES[name])]


def block(seed: int, number: int, rows: int) -> pa.Table:
    """The first `rows` rows of a block."""
    generator = np.random.default_rng([seed, number])
    columns: dict[str, pa.Array] = {}
    for name, (draw, nulls, _) in NUMBERS.items():
        values, empty = draw(generator, BLOCK), generator.random(BLOCK) < nulls
        columns[name] = pa.Array.from_buffers(
            pa.float64(),
            BLOCK,
            [pa.py_buffer(np.packbits(~empty, bitorder="little")), pa.py_buffer(values.astype(np.float64))],
        )
    for name, (draw_integers, _) in INTEGERS.items():
        columns[name] = pa.array(draw_integers(generator, BLOCK).astype(np.int64))
    row = number * BLOCK + np.arange(BLOCK, dtype=np.int64)
    columns[KEY] = pa.array(_scattered(row + seed * 2**32))
    for name, cardinality in CARDINALITIES.items():
        # A long tail: the k-th word comes about as often as 1/k; some words of a large vocabulary come hardly ever.
        codes = np.minimum((cardinality ** generator.random(BLOCK)).astype(np.int32) - 1, cardinality - 1)
        vocabulary = pa.array(words(name))
        columns[name] = pa.DictionaryArray.from_arrays(pa.array(codes), vocabulary)
    start = np.datetime64("2026-01-01", "us").astype(np.int64)
    columns["at"] = pa.array(start + row * 3_000_000).cast(pa.timestamp("us", "UTC"))
    columns["label"] = pa.array(generator.random(BLOCK) < 0.3)
    return pa.table({name: columns[name] for name in COLUMNS}).slice(0, rows)


def _scattered(rows: np.ndarray) -> np.ndarray:
    """Another number of 40 bits for every row, in no order: each step can be undone, so no two fall together."""
    mixed = rows % 2**40
    for odd in (0x4F6CDD1D, 0x2545F491):
        mixed = ((mixed ^ (mixed >> 20)) * odd) % 2**40
    return mixed ^ (mixed >> 20)


def blocks(seed: int, rows: int) -> Iterator[pa.Table]:
    for number in range(-(-rows // BLOCK)):
        yield block(seed, number, min(BLOCK, rows - number * BLOCK))


def write_parquet(path: Path, seed: int, rows: int) -> None:
    """Plain strings in the schema, row groups of about a million rows, pyarrow's defaults (snappy) otherwise."""
    waiting: list[pa.Table] = []
    part = path.with_suffix(".part")
    writer = None
    for table in blocks(seed, rows):
        waiting.append(_plain(table))
        if sum(t.num_rows for t in waiting) >= ROW_GROUP:
            writer = _group(part, writer, waiting)
            waiting = []
    if waiting:
        writer = _group(part, writer, waiting)
    assert writer is not None
    writer.close()
    part.rename(path)


def _group(path: Path, writer: pq.ParquetWriter | None, tables: list[pa.Table]) -> pq.ParquetWriter:
    writer = writer or pq.ParquetWriter(path, tables[0].schema)
    writer.write_table(pa.concat_tables(tables), row_group_size=ROW_GROUP)
    return writer


def write_csv(path: Path, seed: int, rows: int) -> None:
    part = path.with_suffix(".part")
    writer = None
    for table in blocks(seed, rows):
        plain = _plain(table)
        at = pc.strftime(plain["at"].cast(pa.timestamp("s", "UTC")), "%Y-%m-%dT%H:%M:%SZ")
        plain = plain.set_column(plain.column_names.index("at"), "at", at)
        writer = writer or pa_csv.CSVWriter(
            part, plain.schema, write_options=pa_csv.WriteOptions(quoting_style="none")
        )
        writer.write_table(plain)
    assert writer is not None
    writer.close()
    part.rename(path)


def _plain(table: pa.Table) -> pa.Table:
    schema = pa.schema(
        [
            pa.field(field.name, pa.string() if pa.types.is_dictionary(field.type) else field.type)
            for field in table.schema
        ]
    )
    return table.cast(schema)


def rules() -> dict[str, dict]:
    """What is demanded of each column, the same of Refit and of every peer."""
    found: dict[str, dict] = {}
    for name, (_, nulls, (low, high)) in NUMBERS.items():
        found[name] = {"type": "number", "nulls": round(2 * nulls + 0.05, 3), "min": low, "max": high}
    for name, (_, (low, high)) in INTEGERS.items():
        found[name] = {"type": "integer", "nulls": 0.0, "min": low, "max": high}
    found[KEY] = {"type": "integer", "nulls": 0.0, "min": 0, "max": 2**40}
    for name, cardinality in CARDINALITIES.items():
        found[name] = {"type": "category", "nulls": 0.0, "max_categories": cardinality}
        if cardinality <= 100:
            found[name]["categories"] = words(name)
    return found | {"at": {"type": "timestamp", "nulls": 0.0}, "label": {"type": "boolean", "nulls": 0.0}}


def model_toml(keys: tuple[str, ...] = ()) -> str:
    """A model folder's declaration with these rules."""
    lines = ['task = "binary"', 'target = "label"', 'time = "at"']
    if keys:
        lines.append(f"keys = {json.dumps(list(keys))}")
    lines += ["", "[contract]", "max_rows = 50_000_000", "", "[columns]"]
    for name, rule in rules().items():
        values = ", ".join(f"{key} = {json.dumps(value)}" for key, value in rule.items())
        hard = ", hard = true" if rule["type"] in ("number", "integer", "category") else ""
        lines.append(f"{name} = {{ {values}{hard} }}")
    return "\n".join([*lines, "", "[gates]", 'metric = "roc_auc"', ""])


def reference(path: Path) -> dict[str, dict]:
    """What the peers compare with: of numbers the deciles and the counts between them, of categories the counts."""
    found: dict[str, dict] = {}
    table = pq.read_table(path)
    for name in (*NUMBERS, *INTEGERS):
        values = table[name].drop_null().to_numpy()
        edges = np.unique(np.quantile(values, np.linspace(0.1, 0.9, 9)))
        counts = np.bincount(np.searchsorted(edges, values, side="left"), minlength=len(edges) + 1)
        found[name] = {"edges": edges.tolist(), "counts": counts.tolist(), "nulls": table[name].null_count}
    for name in CARDINALITIES:
        counted = table[name].value_counts()
        found[name] = {"words": dict(zip(*(part.to_pylist() for part in counted.flatten()), strict=True))}
    found["label"] = {"true": pc.sum(table["label"]).as_py()}
    return {"rows": table.num_rows, "columns": found}


def build(folder: Path, rows: int, reference_rows: int) -> None:
    """Whatever is missing in the folder for a measurement of so many rows."""
    for model, keys in (("plain", ()), ("keyed", (KEY,))):
        home = folder / "models" / model
        home.mkdir(parents=True, exist_ok=True)
        (home / "model.toml").write_text(model_toml(keys))
    (folder / "rules.json").write_text(json.dumps(rules()))
    compared = folder / f"reference-{reference_rows}.parquet"
    wanted = [(folder / f"{n}.parquet", SEED, n) for n in (rows, SMALL)]
    for path, seed, count in [*wanted, (compared, REFERENCE_SEED, reference_rows)]:
        if not path.exists():
            write_parquet(path, seed, count)
    if not (document := compared.with_suffix(".json")).exists():
        document.write_text(json.dumps(reference(compared)))
    if rows <= MOST_CSV_ROWS and not (plain := folder / f"{rows}.csv").exists():
        write_csv(plain, SEED, rows)


if __name__ == "__main__":
    Path(sys.argv[1]).mkdir(parents=True, exist_ok=True)
    build(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
