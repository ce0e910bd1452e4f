"""Where everything lies in the two buckets. The only module that knows S3 keys.

data bucket                 written by people
  incoming/<model>/<name>
  parts/<model>/<name>       what manifests under incoming/ name; raises no event (refit/manifest.py)
store bucket                written by Refit
  accepted/<model>/<batch>/rows.shard, profile.json    the profile last: its arrival is the message
  contracts/<model>/<digest>.json                      what batches under a contract hold
  quarantine/<model>/<upload>/reasons.json, bad_rows.csv
  drift/<model>/<batch>/<version>.json, <version>.predictions.json
  runs/<model>/inputs/<sha256>.json                    content-addressed
  runs/<model>/<run>/evaluation.json, report.html, report.json     reports may be written anew
  artifacts/<model>/<sha256>.skops                     content-addressed
  versions/<model>/<version>/reference.json             of a version that was to be promoted
  versions/<model>/<version>/predictions.json           of its parent, the version that was tested
  versions/<model>/<version>/rows.npy                  fingerprints of the rows it learned from
"""

from __future__ import annotations

import re

from refit.errors import BadMessage

INCOMING = "incoming/"


def incoming(model: str, name: str) -> str:
    return f"{INCOMING}{model}/{name}"


def model_of_incoming(key: str) -> tuple[str, str]:
    """Model and file name of a key under incoming/; the model is empty when the key names none."""
    if not key.startswith(INCOMING):
        raise BadMessage(f"{key[:100]!r} is not under {INCOMING}")
    model, slash, name = key.removeprefix(INCOMING).partition("/")
    return (model, name) if slash else ("", model)


def shard(model: str, batch_id: str) -> str:
    return f"accepted/{model}/{batch_id}/rows.shard"


def profile(model: str, batch_id: str) -> str:
    return f"accepted/{model}/{batch_id}/profile.json"


def contract(model: str, digest: str) -> str:
    return f"contracts/{model}/{digest}.json"


def batch_of_profile(key: str) -> tuple[str, str]:
    """Model and batch of a profile's key."""
    parts = key.split("/")
    named = len(parts) == 4 and re.fullmatch("[0-9a-f]{24}", parts[2])
    if not named or parts[0] != "accepted" or parts[3] != "profile.json":
        raise BadMessage(f"{key[:100]!r} is not the key of a profile")
    return parts[1], parts[2]


def reasons(model: str, upload_id: str) -> str:
    return f"quarantine/{model}/{upload_id}/reasons.json"


def bad_rows(model: str, upload_id: str) -> str:
    """Rows that broke hard rules, of an upload that was quarantined or accepted without them."""
    return f"quarantine/{model}/{upload_id}/bad_rows.csv"


def quarantined(model: str, upload_id: str) -> str:
    """What the keys of all that is kept there of an upload begin with."""
    return f"quarantine/{model}/{upload_id}/"


def drift(model: str, batch_id: str, version: str) -> str:
    return f"drift/{model}/{batch_id}/{version}.json"


def prediction_drift(model: str, batch_id: str, version: str) -> str:
    return f"drift/{model}/{batch_id}/{version}.predictions.json"


def inputs(model: str, sha256: str) -> str:
    return f"runs/{model}/inputs/{sha256}.json"


def evaluation(model: str, run_id: str) -> str:
    return f"runs/{model}/{run_id}/evaluation.json"


def report(model: str, run_id: str) -> str:
    return f"runs/{model}/{run_id}/report.html"


def report_document(model: str, run_id: str) -> str:
    return f"runs/{model}/{run_id}/report.json"


def artifact(model: str, sha256: str) -> str:
    return f"artifacts/{model}/{sha256}.skops"


def reference(model: str, version: str) -> str:
    return f"versions/{model}/{version}/reference.json"


def predictions(model: str, version: str) -> str:
    return f"versions/{model}/{version}/predictions.json"


def fingerprints(model: str, version: str) -> str:
    return f"versions/{model}/{version}/rows.npy"


# What the keys of a model's begin with.
def drifts(model: str) -> str:
    return f"drift/{model}/"


def reports(model: str) -> str:
    return f"runs/{model}/run-"


def artifacts(model: str) -> str:
    return f"artifacts/{model}/"


def references(model: str) -> str:
    return f"versions/{model}/"
