"""One line of benchmarks/intake.py, measured in a process of its own: the limits and Refit.

    .venv/bin/python benchmarks/intake_lines.py LINE FOLDER ROWS REFERENCE_ROWS

prints one JSON object: `seconds` and `cpu` of the work after the imports, and what was found, so that the lines can be compared.
"""

from __future__ import annotations

import importlib
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WARM_CALLS, WARM_SECONDS = 200, 5.0
BATCH = 131_072
CATEGORIES = ["c_tiny", "c_small", "c_large", "c_huge"]


class NoPandas:
    """The functions that read uploads have no pandas; where it is installed, pyarrow would import it (a second)."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name == "pandas":
            raise ImportError("as in the function, there is no pandas")


@dataclass(frozen=True)
class Job:
    """Where a line finds its files."""

    folder: Path
    rows: int
    reference_rows: int

    @property
    def parquet(self) -> Path:
        return self.folder / f"{self.rows}.parquet"

    @property
    def csv(self) -> Path:
        return self.folder / f"{self.rows}.csv"

    @property
    def reference(self) -> Path:
        return self.folder / f"reference-{self.reference_rows}.parquet"

    @property
    def profile(self) -> Path:
        """Refit's profile of the reference."""
        return self.folder / f"profile-{self.reference_rows}.json"

    @property
    def counts(self) -> Path:
        """What the peers know of the reference."""
        return self.folder / f"reference-{self.reference_rows}.json"

    @property
    def shard_size(self) -> Path:
        return self.folder / f"shard-{self.rows}.bytes"


def scan_batches(job: Job) -> dict:
    """ParquetFile.iter_batches on two threads, strings as dictionaries."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(job.parquet, pre_buffer=False, read_dictionary=CATEGORIES) as file:
        return {"rows": sum(batch.num_rows for batch in file.iter_batches(BATCH, use_threads=True))}


def scan_checked(job: Job) -> dict:
    """The same on one thread, with the pages' checksums verified, as Refit reads."""
    import pyarrow.parquet as pq

    options = {"pre_buffer": False, "read_dictionary": CATEGORIES, "page_checksum_verification": True}
    with pq.ParquetFile(job.parquet, **options) as file:
        return {"rows": sum(batch.num_rows for batch in file.iter_batches(BATCH, use_threads=False))}


def scan_dataset(job: Job) -> dict:
    """The dataset scanner on two threads, strings as dictionaries, a few batches ahead."""
    import pyarrow.dataset as ds

    scanner = ds.dataset(job.parquet, format=ds.ParquetFileFormat(dictionary_columns=CATEGORIES)).scanner(
        batch_size=BATCH,
        use_threads=True,
        batch_readahead=4,
        fragment_scan_options=ds.ParquetFragmentScanOptions(pre_buffer=False),
    )
    return {"rows": sum(batch.num_rows for batch in scanner.to_batches())}


def scan_csv(job: Job) -> dict:
    """pyarrow's own streaming CSV read, told the types."""
    import pyarrow as pa
    import pyarrow.csv as pa_csv

    rules = json.loads((job.folder / "rules.json").read_text())
    kinds = {
        "number": pa.float64(),
        "integer": pa.int64(),
        "category": pa.dictionary(pa.int32(), pa.string()),
        "timestamp": pa.timestamp("us", "UTC"),
        "boolean": pa.bool_(),
    }
    options = pa_csv.ConvertOptions(column_types={name: kinds[rule["type"]] for name, rule in rules.items()})
    with pa_csv.open_csv(job.csv, convert_options=options) as reader:
        return {"rows": sum(batch.num_rows for batch in reader)}


def scan_and_write(job: Job) -> dict:
    """The first scan, then a plain write of as many bytes as Refit's shard of this file has."""
    found = scan_batches(job)
    left = int(job.shard_size.read_text())
    piece = os.urandom(1 << 20) * 4
    with (job.folder / "raw.tmp").open("wb", buffering=0) as file:
        while left > 0:
            left -= file.write(piece[:left])
    return found


def refit_parquet(job: Job) -> dict:
    return _judge(job.parquet, _contract(job, "plain"), job.profile)


def refit_keyed(job: Job) -> dict:
    """The same with a key that must be unique, which remembers every row."""
    return _judge(job.parquet, _contract(job, "keyed"), job.profile)


def refit_shard(job: Job) -> dict:
    """The same with the typed shard that training reads, written to a file."""
    shard = job.folder / "shard.tmp"
    found = _judge(job.parquet, _contract(job, "plain"), job.profile, shard)
    job.shard_size.write_text(str(shard.stat().st_size))
    return found


def refit_csv(job: Job) -> dict:
    return _judge(job.csv, _contract(job, "plain"), job.profile)


def refit_prepare(job: Job) -> dict:
    """Not measured: the profile of the reference, as a champion's is stored."""
    from refit.profile import to_json

    verdict = _validate(job.reference, _contract(job, "plain"), None)
    job.profile.write_text(json.dumps(to_json(verdict.profile)))
    return {"rows": verdict.rows}


def refit_small(job: Job) -> dict:
    """A file of 1,000 rows, over and over in one warm process, a bare read of it in between."""
    import pyarrow.parquet as pq

    contract = _contract(job, "plain")
    spent: dict[str, list[tuple[float, float]]] = {"refit": [], "read": []}
    end = time.perf_counter() + WARM_SECONDS
    while len(spent["refit"]) < WARM_CALLS and time.perf_counter() < end:
        cpu, begun = time.process_time(), time.perf_counter()
        found = _judge(job.parquet, contract, job.profile, job.folder / "small.tmp")
        spent["refit"].append((time.perf_counter() - begun, time.process_time() - cpu))
        cpu, begun = time.process_time(), time.perf_counter()
        pq.ParquetFile(job.parquet).read()
        spent["read"].append((time.perf_counter() - begun, time.process_time() - cpu))
    for name, each in spent.items():
        wall, cpus = zip(*each, strict=True)
        found |= {name: statistics.median(wall), f"{name}_cpu": statistics.median(cpus)}
        found |= {f"{name}_first": wall[0], f"{name}_best": min(wall)}
    return found


def _judge(path: Path, contract: Any, reference: Path, shard: Path | None = None) -> dict:
    """Validation, profile and drift of one file, as the two functions do it."""
    from refit.profile import from_json, to_json

    verdict = _validate(path, contract, shard)
    if not verdict.accepted:
        raise SystemExit(f"the benchmark's own file was not accepted: {verdict.reasons}")
    json.dumps(to_json(verdict.profile))  # what is stored of it
    report = _compare(from_json(json.loads(reference.read_text())), verdict.profile, contract)
    columns = verdict.profile.columns
    return {
        "rows": verdict.rows,
        "nulls": sum(column.nulls for column in columns.values()),
        "drifted": [column.column for column in report.drifted],
    }


def _contract(job: Job, model: str) -> Any:
    from refit.models import load_model

    return load_model(job.folder / "models" / model).contract


def _validate(path: Path, contract: Any, shard: Path | None) -> Any:
    """The one place that knows how a file is validated."""
    from refit.validation import validate_file

    return validate_file(path, contract, shard=shard, folder=path.parent)


def _compare(reference: Any, profile: Any, contract: Any) -> Any:
    """The one place that knows how profiles are compared."""
    from refit.drift import compare

    columns = [column.name for column in contract.features]
    return compare(reference, profile, [*columns, contract.target])


REFIT = ("refit.validation", "refit.drift", "refit.models")
LINES: dict[str, tuple[Callable[[Job], dict], tuple[str, ...]]] = {
    "scan-batches": (scan_batches, ("pyarrow.parquet",)),
    "scan-checked": (scan_checked, ("pyarrow.parquet",)),
    "scan-dataset": (scan_dataset, ("pyarrow.dataset",)),
    "scan-csv": (scan_csv, ("pyarrow.csv",)),
    "scan-write": (scan_and_write, ("pyarrow.parquet",)),
    "refit": (refit_parquet, REFIT),
    "refit-keyed": (refit_keyed, REFIT),
    "refit-shard": (refit_shard, REFIT),
    "refit-csv": (refit_csv, REFIT),
    "refit-prepare": (refit_prepare, REFIT),
    "refit-small": (refit_small, REFIT),
}


def measure(lines: dict, arguments: list[str], before: Callable[[Job], None] | None = None) -> None:
    """Run a line once, after its imports and what comes before, and print what it took."""
    work, modules = lines[arguments[0]]
    for module in modules:
        importlib.import_module(module)
    job = Job(Path(arguments[1]), int(arguments[2]), int(arguments[3]))
    if before:
        before(job)
    cpu, begun = time.process_time(), time.perf_counter()
    found = work(job)
    seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
    print(json.dumps({"seconds": seconds, "cpu": cpu, "found": found}))


if __name__ == "__main__":
    sys.meta_path.insert(0, NoPandas())  # type: ignore[arg-type]
    measure(LINES, sys.argv[1:])
