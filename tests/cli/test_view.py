"""What people read of a model."""

import pytest

from refit.policy import FOREVER
from refit_cli import view

EMPTY = {
    "model": "loans",
    "champion": None,
    "uploads": {},
    "rows": 0,
    "new_rows": 0,
    "running": None,
    "approval": None,
    "pending": None,
    "look_again_at": "",
    "hold": None,
    "last_run": None,
    "last_decision": None,
    "last_quality": None,
    "last_drift": None,
    "false_alarms_a_year": None,
}
ENDED = {"run_id": "run-00000001", "result": "does not beat the trivial baseline", "status": "kept"}


def line(word: str, **changes: object) -> str:
    return next(each for each in view.status_text({**EMPTY, **changes}).splitlines() if word in each)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, "none yet; drop data under incoming/loans/"),
        ({"rows": 600}, "none yet"),
        ({"rows": 600, "running": "run-00000001", "last_run": ENDED | {"result": ""}}, "none yet"),
        ({"rows": 600, "last_run": ENDED}, "none yet; why the last run gave none: refit report loans"),
    ],
)
def test_a_model_without_a_champion_is_asked_for_data_only_while_it_has_none(changes, says):
    assert line("champion", **changes) == f"  champion   {says}"


def test_a_pause_without_an_end_is_told_without_the_year_9999():
    hold = {"until": FOREVER, "reason": "holidays", "by": "bob"}
    pending = {"reason": "new data", "requested_by": "check_drift"}
    assert line("hold", hold=hold) == "  on hold    until resumed, by bob: holidays"
    assert line("pending", hold=hold, pending=pending, look_again_at=FOREVER).endswith(
        "(asked by check_drift)"
    )


def test_soft_findings_of_an_accepted_upload_are_in_its_history():
    """They are nowhere else to be read in words: the file is accepted, and nobody looks at a document."""

    def told(*codes: str, outcome: str = "accepted") -> str:
        warnings = [{"code": code, "column": "age", "message": "", "count": 1} for code in codes]
        upload = {
            "key": "incoming/loans/a.csv",
            "outcome": outcome,
            "rows": 9,
            "reasons": [],
            "warnings": warnings,
            "duplicate_of": "",
            "retracted": "",
            "removed": "",
            "decided_at": "2026-01-01T00:00:00Z",
            "batch_id": "",
        }
        kinds = ("quality", "drift", "knocks", "runs", "approvals", "generations", "pruned")
        return view.history_text({"model": "loans", "uploads": [upload]} | {kind: [] for kind in kinds})

    assert told("coerced").endswith("a.csv accepted: 9 rows")
    assert told("coerced", "out_of_range").endswith("accepted: 9 rows, noted: out_of_range 'age'")
    assert told("not_fresh", *["out_of_range"] * 4).endswith(
        "noted: not_fresh 'age', out_of_range 'age', out_of_range 'age', 2 more"
    )
    assert "noted" not in told("out_of_range", outcome="quarantined")
