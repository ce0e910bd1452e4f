"""evidently and nannyml at their defaults, on the files that benchmarks/drift.py wrote; runs in .venv-bench.

Prints a line of JSON a peer: its name, and the number of columns that it flagged in each batch.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

import pandas as pd


def evidently(reference: pd.DataFrame, batches: list[pd.DataFrame]) -> tuple[str, list[int]]:
    import evidently as package
    from evidently import Report
    from evidently.presets import DataDriftPreset

    flagged = []
    for batch in batches:
        found = Report([DataDriftPreset()]).run(batch, reference).dict()
        count = next(m["value"]["count"] for m in found["metrics"] if "DriftedColumnsCount" in str(m))
        flagged.append(int(count))
    return f"evidently {package.__version__}", flagged


def nannyml(reference: pd.DataFrame, batches: list[pd.DataFrame]) -> tuple[str, list[int]]:
    import nannyml as package

    names = list(reference.columns)
    calculator = package.UnivariateDriftCalculator(column_names=names, chunk_size=len(batches[0]))
    calculator.fit(reference)
    frame = calculator.calculate(pd.concat(batches, ignore_index=True)).filter(period="analysis").to_df()
    alerts = frame.loc[:, [column for column in frame.columns if column[-1] == "alert"]]
    return f"nannyml {package.__version__}", [int(count) for count in alerts.sum(axis=1)]


def main() -> None:
    warnings.simplefilter("ignore")
    folder, count = Path(sys.argv[1]), int(sys.argv[2])
    reference, *batches = (pd.read_parquet(folder / f"{i}.parquet") for i in range(count + 1))
    for peer in (nannyml, evidently):
        try:
            name, flagged = peer(reference, batches)
        except Exception as error:  # noqa: BLE001 - one that does not run is said, the other still measured
            print(f"{peer.__name__}: {type(error).__name__}: {error}", file=sys.stderr)
            continue
        print(json.dumps({"name": name, "flagged": flagged}), flush=True)


if __name__ == "__main__":
    main()
