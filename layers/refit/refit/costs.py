"""What a retraining costs on AWS, estimated from its rows: for budgets, and for `refit replay`.

An estimate, good to a factor of two or three: it is there to tell a cent from
a dollar before anything is started. What a run really took is in its record and on the bill.
"""

from __future__ import annotations

from dataclasses import dataclass

# List prices of us-east-1, US dollars, without the free tier. Written down on 2026-11-23 from what has held since
# 2020 (Lambda, x86) and 2016 (Step Functions); compare with aws.amazon.com/lambda/pricing and /step-functions/pricing.
USD_PER_GB_SECOND = 0.0000166667
USD_PER_TRANSITION = 0.000025
MEMORY_GB = 3.0  # TrainMemoryMb of template.yaml
TRANSITIONS = 9  # of an execution with one candidate; each further one adds two

# Of 2026-11-23: scikit-learn's histogram gradient boosting, 100 iterations on some 18 columns, took 7 to 8 s for a million rows
# on two whole cores; TrainMemoryMb has less than two. An estimator of your own may be far from it.
TASK_SECONDS = 4.0  # start, imports, reading of shards, one task
FIT_SECONDS_PER_MILLION = 13.0
PREDICT_SECONDS_PER_MILLION = 3.0


@dataclass(frozen=True)
class Cost:
    """`seconds` is what the tasks take one after the other; candidates train side by side, so a run ends sooner."""

    usd: float = 0.0
    seconds: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.usd + other.usd, self.seconds + other.seconds)


def of_run(rows: int, candidates: int = 1, refits: int = 1) -> Cost:
    """A run that learns from `rows`: candidates trained, one evaluated, the proved one refitted."""
    fits = candidates + refits
    millions = rows / 1e6
    seconds = fits * (TASK_SECONDS + millions * FIT_SECONDS_PER_MILLION)
    seconds += TASK_SECONDS + millions * PREDICT_SECONDS_PER_MILLION  # the evaluation
    usd = seconds * MEMORY_GB * USD_PER_GB_SECOND + (TRANSITIONS + 2 * candidates) * USD_PER_TRANSITION
    return Cost(usd, seconds)


def of_fit(rows: int) -> Cost:
    """One fit without candidates or evaluation, as a schedule does that compares nothing."""
    seconds = TASK_SECONDS + rows / 1e6 * FIT_SECONDS_PER_MILLION
    return Cost(seconds * MEMORY_GB * USD_PER_GB_SECOND + 3 * USD_PER_TRANSITION, seconds)
