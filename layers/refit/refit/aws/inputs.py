"""The frozen inputs of a run: which batches, and what the champion of that moment had learned."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from refit.aws import keys
from refit.aws.registry import Registry, from_dict
from refit.aws.store import Store
from refit.batches import Upload
from refit.candidates import applicable
from refit.models import ModelSpec
from refit.records import Version


@dataclass(frozen=True)
class Input:
    """One batch and the object version it came from. `seen`: the champion learned from it."""

    batch_id: str
    key: str
    version_id: str
    sha256: str
    rows: int
    seen: bool


OF_RUN = ("test_share", "selection_share", "recent_rows")


@dataclass(frozen=True)
class Inputs:
    """Oldest data first."""

    model: str
    champion: str
    generation: int
    spec_digest: str
    candidates: tuple[str, ...]
    batches: tuple[Input, ...]
    # How the blocks are cut and what "recent" learns from in this run, where that is not as declared.
    test_share: float | None = None
    selection_share: float | None = None
    recent_rows: int | None = None

    def declared(self, spec: ModelSpec) -> ModelSpec:
        """The declaration that the run's trial follows."""
        own = {name: getattr(self, name) for name in OF_RUN if getattr(self, name) is not None}
        return replace(spec, training=replace(spec.training, **own))


def usable(store: Store, spec: ModelSpec, uploads: Sequence[Upload]) -> tuple[list[Upload], tuple[str, ...]]:
    """The uploads that can be learned from under the model's contract, and why others cannot, in words."""
    fits: tuple[int, str] = (0, "")
    gaps = {"": fits, spec.contract.digest: fits}  # version and gap by digest
    for digest in {upload.contract for upload in uploads} - gaps.keys():
        held = store.get_json(keys.contract(spec.name, digest))
        gaps[digest] = (held["version"], spec.contract.gap(held["columns"]))
    kept = [upload for upload in uploads if not gaps[upload.contract][1]]
    left = Counter(gaps[upload.contract] for upload in uploads if gaps[upload.contract][1])
    return kept, tuple(_left_out(n, version, gap) for (version, gap), n in sorted(left.items()))


def _left_out(batches: int, version: int, gap: str) -> str:
    which = (
        "1 batch of contract version {} is"
        if batches == 1
        else f"{batches} batches of contract version {{}} are"
    )
    return f"{which.format(version)} left out: {gap}"


def freeze(
    store: Store,
    spec: ModelSpec,
    uploads: Sequence[Upload],
    learned: frozenset[str],
    champion: str,
    generation: int,
    known: Version | None,
    to_train: ModelSpec | None = None,
) -> tuple[str, Inputs]:
    """Store the inputs under the hash of their content; returns the key and the inputs.

    `known` is the record of the champion's version; `to_train` declares the candidates of this run and how its
    rows are cut, where that is not as in `spec`.
    """
    batches = tuple(
        Input(u.batch_id, u.key, u.version_id, u.sha256, u.rows, u.batch_id in learned) for u in uploads
    )
    candidates = applicable(to_train or spec, sum(upload.rows for upload in uploads), known)
    given, own = spec.training, (to_train or spec).training
    other = {name: getattr(own, name) for name in OF_RUN if getattr(own, name) != getattr(given, name)}
    inputs = Inputs(spec.name, champion, generation, spec.digest, candidates, batches, **other)
    document = {name: value for name, value in asdict(inputs).items() if value is not None}
    sha256 = hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
    key = keys.inputs(spec.name, sha256)
    store.put_json_once(key, document)
    return key, inputs


def read(store: Store, key: str) -> Inputs:
    return from_dict(Inputs, store.get_json(key))


def learned_by(store: Store, registry: Registry, model: str, version: str) -> frozenset[str]:
    """Batches that a champion learned from; none for no champion and for an imported one."""
    found = registry.version(model, version) if version else None
    if found is None or not found.inputs_key:
        return frozenset()
    return frozenset(each.batch_id for each in read(store, found.inputs_key).batches)
