"""What Refit announces: one shape an event, on the deployment's own bus."""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from refit.errors import AwsUnavailable

SOURCE = "refit"


class Event(StrEnum):
    """Detail types. Samples with their fields are in events/."""

    BATCH_ACCEPTED = "Batch Accepted"
    BATCH_QUARANTINED = "Batch Quarantined"
    UPLOAD_IGNORED = "Upload Ignored"
    UPLOAD_PARKED = "Upload Parked"
    DRIFT_CHECKED = "Drift Checked"
    DRIFT_FOUND = "Drift Found"
    RETRAINING_REQUESTED = "Retraining Requested"
    RETRAINING_DECIDED = "Retraining Decided"
    WAITING_FOR_APPROVAL = "Waiting For Approval"
    CHAMPION_PROMOTED = "Champion Promoted"
    CHAMPION_KEPT = "Champion Kept"
    CHAMPION_ROLLED_BACK = "Champion Rolled Back"
    RETRAINING_FAILED = "Retraining Failed"


class Bus:
    def __init__(self, events: Any, name: str) -> None:
        self.events, self.name = events, name

    def publish(self, event: Event, detail: Mapping[str, Any]) -> None:
        """Raises AwsUnavailable when the bus did not take the event."""
        entry = {
            "EventBusName": self.name,
            "Source": SOURCE,
            "DetailType": event.value,
            "Detail": json.dumps(detail, allow_nan=False),
        }
        answer = self.events.put_events(Entries=[entry])
        if answer.get("FailedEntryCount"):
            failed = answer["Entries"][0]
            raise AwsUnavailable(f"{event}: {failed.get('ErrorCode')}: {failed.get('ErrorMessage')}")
