"""The rows and the profile behind frozen inputs; apart from them, for whoever only names inputs needs no numpy."""

from __future__ import annotations

import numpy as np

from refit.aws import keys
from refit.aws.inputs import Inputs
from refit.aws.store import Store
from refit.models import ModelSpec
from refit.profile import Profile, from_json, merge
from refit.shard import load
from refit.training import Dataset, assemble


def dataset(store: Store, inputs: Inputs, spec: ModelSpec, learned: np.ndarray | None = None) -> Dataset:
    """Labelled rows of all batches in time order; `learned`: fingerprints of the champion's rows."""
    shards = [load(store.get(keys.shard(inputs.model, each.batch_id))) for each in inputs.batches]
    return assemble(shards, [each.seen for each in inputs.batches], spec, learned)


def reference(store: Store, inputs: Inputs) -> Profile:
    """The merged profile of all batches: what a version that learned from them compares new data with."""
    return merge(
        from_json(store.get_json(keys.profile(inputs.model, each.batch_id))) for each in inputs.batches
    )
