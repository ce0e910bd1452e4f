"""The registry table: every record, every conditional write. The only module that knows its keys.

    pk                 sk
    UPLOADS#<model>    <upload>                one object version and its outcome
    CONTENT#<model>    <sha256>                first upload of that content
    MODEL#<model>      SLOT                    what runs and what is pending
                       CHAMPION                copy of the newest generation: the pointer
                       GENERATION#<8 digits>   one change of the champion
                       VERSION#<version>       one fitted model
                       RUN#<8 digits>          one execution
                       KNOCK#<knock>           one wish and the decision on it
                       QUALITY#<batch>#<version>, DRIFT#<batch>#<version>
                       TOLD                    up to which generation changes were told of
    APPROVALS#<model>  RUN#<8 digits>          a promotion that a person is asked about; apart, to be granted apart
    REFUSED            <event>                 an event that was turned away
    TICK               LAST                    the newest look of the scheduled rule
    SWEPT              <upload>                when the tick last sent an upload to the queue

A record is JSON in `body`; what conditions look at stands beside it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from enum import Enum
from functools import cache
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from botocore.exceptions import ClientError

from refit.batches import Upload
from refit.errors import ArtifactError, AwsUnavailable, BadMessage, ChampionMoved, Conflict
from refit.records import (
    Answered,
    Approval,
    Generation,
    Quality,
    Refusal,
    Run,
    RunStatus,
    Slot,
    Tick,
    Version,
)

T = TypeVar("T")
Item = dict[str, Any]


class Registry:
    """Records by model. Reads are strongly consistent."""

    def __init__(self, dynamodb: Any, table: str) -> None:
        self.dynamodb, self.table = dynamodb, table

    # ------------------------------------------------------------ uploads
    def upload(self, model: str, upload_id: str) -> Upload | None:
        return self._get(Upload, f"UPLOADS#{model}", upload_id)

    def uploads(self, model: str) -> list[Upload]:
        return [_read(Upload, item) for item in self._query(f"UPLOADS#{model}")]

    def save_upload(self, upload: Upload) -> Upload:
        """Write the next revision of an upload's record.

        Raises
        ------
        Conflict
            When another writer wrote that revision first.
        """
        saved = replace(upload, revision=upload.revision + 1)
        item = _item(f"UPLOADS#{upload.model}", upload.upload_id, saved, revision=saved.revision)
        self._write([_put(self.table, item, "revision", upload.revision or None)])
        return saved

    def first_with_content(self, model: str, sha256: str, key: str) -> str:
        """Key of the first upload with that content: `key` itself when it is new."""
        item = _item(f"CONTENT#{model}", sha256, {"key": key})
        try:
            self._write([_put(self.table, item, "pk", None)])
            return key
        except Conflict:
            found = self._get_item(f"CONTENT#{model}", sha256)
            return json.loads(found["body"]["S"])["key"] if found else key

    # ------------------------------------------------------------ champion and versions
    def champion(self, model: str) -> Generation | None:
        return self._get(Generation, f"MODEL#{model}", "CHAMPION")

    def generation(self, model: str, number: int) -> Generation | None:
        return self._get(Generation, f"MODEL#{model}", f"GENERATION#{number:08d}")

    def generations(self, model: str) -> list[Generation]:
        return self._list(Generation, model, "GENERATION#")

    def version(self, model: str, version: str) -> Version | None:
        return self._get(Version, f"MODEL#{model}", f"VERSION#{version}")

    def recorded(self, model: str, version: str) -> Version:
        """A version that there has to be; raises ArtifactError when there is none."""
        found = self.version(model, version)
        if found is None:
            raise ArtifactError(f"{model} has no version {version[:40]!r}; see: refit history {model}")
        return found

    def versions(self, model: str) -> list[Version]:
        return self._list(Version, model, "VERSION#")

    def add_version(self, version: Version) -> Version:
        """Record a version once; returns what is recorded, which a repeated attempt wrote before."""
        try:
            item = _item(f"MODEL#{version.model}", f"VERSION#{version.version}", version)
            self._write([_put(self.table, item, "pk", None)])
            return version
        except Conflict:
            return self.version(version.model, version.version) or version

    def prune_version(self, version: Version, at: str, generation: int) -> None:
        """Mark a version whose artifact is to go, provided the champion is still of that generation.

        From then on no change of the champion can name it.

        Raises
        ------
        Conflict
            When the champion moved, perhaps back to this version: read again.
        """
        pk = f"MODEL#{version.model}"
        pruned = replace(version, pruned_at=at)
        item = _item(pk, f"VERSION#{version.version}", pruned, pruned_at=at)
        self._write(
            [
                _put(self.table, item, "pruned_at", None),
                _check(self.table, pk, "CHAMPION", "generation", generation),
            ]
        )

    def told_of(self, model: str) -> int:
        """The newest generation whose change was told of; 0 when none was."""
        found = self._get_item(f"MODEL#{model}", "TOLD")
        return int(json.loads(found["body"]["S"])["generation"]) if found else 0

    def note_told_of(self, model: str, generation: int) -> None:
        """Remember that changes up to `generation` were told of; a lower one that comes late is passed over."""
        item = _item(f"MODEL#{model}", "TOLD", {"generation": generation}, generation=generation)
        self._put_newest(item, "generation", generation)

    def move_champion(
        self, change: Generation, closed: tuple[Run, Slot] | None = None, slot: Slot | None = None
    ) -> None:
        """Make `change.version` the champion, provided the one before it still is and its artifact was not pruned.

        Pointer, audit record and what belongs to the change are one transaction:
        for a promotion the end of its run, for a rollback the slot with its hold.

        Raises
        ------
        ChampionMoved
            When the champion is no longer of generation `change.generation - 1`.
        """
        pk = f"MODEL#{change.model}"
        expected = change.generation - 1
        pointer = _item(pk, "CHAMPION", change, generation=change.generation)
        audit = _item(pk, f"GENERATION#{change.generation:08d}", change)
        writes = [
            _put(self.table, pointer, "generation", expected or None),
            _put(self.table, audit, "pk", None),
            _check(self.table, pk, f"VERSION#{change.version}", "pruned_at", None),
        ]
        if closed:
            writes += self._closing(*closed)
        if slot:
            writes.append(self._slot_write(change.model, slot))
        try:
            self._write(writes)
        except Conflict as error:
            now = self.champion(change.model)
            if now is None or now.generation == expected:
                raise  # the run or the slot was taken, or the version pruned, but the champion is the same
            raise ChampionMoved(
                f"the champion of {change.model} is now {now.version} (generation {now.generation}), no longer "
                f"generation {expected}; the comparison was with another champion"
            ) from error

    # ------------------------------------------------------------ runs
    def slot(self, model: str) -> Slot:
        return self._get(Slot, f"MODEL#{model}", "SLOT") or Slot()

    def run(self, model: str, run_id: str) -> Run | None:
        return self._get(Run, f"MODEL#{model}", _run_sk(run_id))

    def runs(self, model: str) -> list[Run]:
        return self._list(Run, model, "RUN#")

    def knock(self, model: str, knock_id: str) -> Answered | None:
        return self._get(Answered, f"MODEL#{model}", f"KNOCK#{knock_id}")

    def knocks(self, model: str) -> list[Answered]:
        return self._list(Answered, model, "KNOCK#")

    def answer(self, answered: Answered, slot: Slot, run: Run | None = None, *, changed: bool = True) -> None:
        """Record the answer to a knock, with the slot it leads to and the run it starts, all or nothing.

        `slot` is the new state, carrying the revision that was read. One that is as it was is not written,
        only held to be so still: else a rain of knocks that change nothing would keep out the one that
        starts a run, which takes longer to answer.

        Raises
        ------
        Conflict
            When the slot changed meanwhile or the knock has its answer: read again.
        """
        pk = f"MODEL#{answered.model}"
        record = _item(pk, f"KNOCK#{answered.knock_id}", answered)
        writes = [_put(self.table, record, "pk", None)]
        if changed:
            writes.append(self._slot_write(answered.model, slot))
        else:
            writes.append(_check(self.table, pk, "SLOT", "revision", slot.revision or None))
        if run:
            writes.append(
                _put(self.table, _item(pk, _run_sk(run.run_id), run, status=run.status), "pk", None)
            )
        self._write(writes)

    def note_announced(self, answered: Answered) -> None:
        """Remember that others were told of an answer."""
        pk = f"MODEL#{answered.model}"
        record = _item(pk, f"KNOCK#{answered.knock_id}", replace(answered, announced=True))
        self._write([_put(self.table, record, "pk", pk)])

    def save_slot(self, model: str, slot: Slot) -> None:
        """Write the next revision of the slot; raises Conflict when it changed meanwhile."""
        self._write([self._slot_write(model, slot)])

    def close_run(self, run: Run, slot: Slot) -> None:
        """End a run and free its slot; raises Conflict when either was changed meanwhile."""
        self._write(self._closing(run, slot))

    def forget_run(self, run: Run, knock_ids: Iterable[str]) -> None:
        """Delete a run that has ended, and the knocks that started it, all or nothing."""
        pk = f"MODEL#{run.model}"
        deletes = [_delete(self.table, pk, _run_sk(run.run_id), "status", run.status.value)]
        self._write(deletes + [_delete(self.table, pk, f"KNOCK#{name}") for name in knock_ids])

    def forget_approval(self, model: str, run_id: str) -> None:
        """Delete what a person was asked about a run, if anything."""
        self._forget(f"APPROVALS#{model}", _run_sk(run_id))

    def forget_knock(self, model: str, knock_id: str) -> None:
        self._forget(f"MODEL#{model}", f"KNOCK#{knock_id}")

    def _closing(self, run: Run, slot: Slot) -> list[Item]:
        record = _item(f"MODEL#{run.model}", _run_sk(run.run_id), run, status=run.status)
        return [
            _put(self.table, record, "status", RunStatus.RUNNING.value),
            self._slot_write(run.model, slot),
        ]

    def _slot_write(self, model: str, slot: Slot) -> Item:
        new = replace(slot, revision=slot.revision + 1)
        item = _item(f"MODEL#{model}", "SLOT", new, revision=new.revision)
        return _put(self.table, item, "revision", slot.revision or None)

    # ------------------------------------------------------------ approvals
    def approval(self, model: str, run_id: str) -> Approval | None:
        return self._get(Approval, f"APPROVALS#{model}", _run_sk(run_id))

    def approvals(self, model: str) -> list[Approval]:
        return [_read(Approval, item) for item in self._query(f"APPROVALS#{model}")]

    def save_approval(self, approval: Approval) -> Approval:
        """Write the next revision of a request; raises Conflict when it changed meanwhile."""
        saved = replace(approval, revision=approval.revision + 1)
        item = _item(f"APPROVALS#{saved.model}", _run_sk(saved.run_id), saved, revision=saved.revision)
        self._write([_put(self.table, item, "revision", approval.revision or None)])
        return saved

    # ------------------------------------------------------------ observations
    def add_quality(self, quality: Quality) -> None:
        self._add_once(quality.model, f"QUALITY#{quality.batch_id}#{quality.version}", quality)

    def qualities(self, model: str) -> list[Quality]:
        return self._list(Quality, model, "QUALITY#")

    def add_drift(self, model: str, batch_id: str, version: str, summary: Mapping[str, Any]) -> None:
        document = {**summary, "batch_id": batch_id, "version": version}
        self._add_once(model, f"DRIFT#{batch_id}#{version}", document)

    def drifts(self, model: str) -> list[dict[str, Any]]:
        return [json.loads(item["body"]["S"]) for item in self._query(f"MODEL#{model}", "DRIFT#")]

    def forget_quality(self, model: str, batch_id: str, version: str) -> None:
        self._forget(f"MODEL#{model}", f"QUALITY#{batch_id}#{version}")

    def forget_drift(self, model: str, batch_id: str, version: str) -> None:
        self._forget(f"MODEL#{model}", f"DRIFT#{batch_id}#{version}")

    def refuse(self, refusal: Refusal) -> None:
        # By event alone: one without a time is given that of each delivery.
        self._put_once("REFUSED", refusal.event_id, refusal)

    def note_tick(self, tick: Tick) -> None:
        """Remember the newest tick; an older one that comes late is passed over."""
        self._put_newest(_item("TICK", "LAST", tick, at=tick.at), "at", tick.at)

    def last_tick(self) -> Tick | None:
        return self._get(Tick, "TICK", "LAST")

    def note_swept(self, upload_id: str, at: str) -> None:
        """Remember when the tick sent an upload to the queue."""
        self._put_newest(_item("SWEPT", upload_id, {"at": at}, at=at), "at", at)

    def swept_since(self, upload_id: str, since: str) -> bool:
        """Whether the tick sent an upload to the queue after that time."""
        found = self._get_item("SWEPT", upload_id)
        return found is not None and found["at"]["S"] > since

    def swept(self) -> dict[str, str]:
        """When the tick last sent an upload to the queue, by upload."""
        return {item["sk"]["S"]: item["at"]["S"] for item in self._query("SWEPT")}

    def forget_swept(self, upload_id: str) -> None:
        self._forget("SWEPT", upload_id)

    def forget_refusal(self, event_id: str) -> None:
        self._forget("REFUSED", event_id)

    def refusals(self) -> list[Refusal]:
        """Oldest first."""
        found = [_read(Refusal, item) for item in self._query("REFUSED")]
        return sorted(found, key=lambda refusal: (refusal.at, refusal.event_id))

    def _put_newest(self, item: Item, guard: str, value: int | str) -> None:
        """Put unless what is there has a higher value of `guard`."""
        put = _put(self.table, item, guard, value)["Put"]
        put["ConditionExpression"] = "attribute_not_exists(#guard) OR #guard <= :expected"
        try:
            self.dynamodb.put_item(**put)
        except ClientError as error:
            if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
                raise

    def _add_once(self, model: str, sk: str, record: Any) -> None:
        self._put_once(f"MODEL#{model}", sk, record)

    def _put_once(self, pk: str, sk: str, record: Any) -> None:
        try:
            self._write([_put(self.table, _item(pk, sk, record), "pk", None)])
        except Conflict:
            return  # observed before: a repeated event adds nothing

    # ------------------------------------------------------------ the table
    def _get_item(self, pk: str, sk: str) -> Item | None:
        found = self.dynamodb.get_item(TableName=self.table, Key=_key(pk, sk), ConsistentRead=True)
        return found.get("Item")

    def _get(self, kind: type[T], pk: str, sk: str) -> T | None:
        item = self._get_item(pk, sk)
        return _read(kind, item) if item else None

    def _list(self, kind: type[T], model: str, prefix: str) -> list[T]:
        return [_read(kind, item) for item in self._query(f"MODEL#{model}", prefix)]

    def _query(self, pk: str, prefix: str = "") -> Iterator[Item]:
        names, values = {"#pk": "pk"}, {":pk": {"S": pk}}
        condition = "#pk = :pk"
        if prefix:
            names["#sk"], values[":sk"] = "sk", {"S": prefix}
            condition += " AND begins_with(#sk, :sk)"
        request = {
            "TableName": self.table,
            "KeyConditionExpression": condition,
            "ExpressionAttributeNames": names,
            "ExpressionAttributeValues": values,
            "ConsistentRead": True,
        }
        while True:
            page = self.dynamodb.query(**request)
            yield from page["Items"]
            if "LastEvaluatedKey" not in page:
                return
            request["ExclusiveStartKey"] = page["LastEvaluatedKey"]

    def _forget(self, pk: str, sk: str) -> None:
        self.dynamodb.delete_item(TableName=self.table, Key=_key(pk, sk))

    def _write(self, writes: Sequence[Item]) -> None:
        """All of the conditional writes, or none.

        A refusal is looked into: when what is stored is exactly what was to be
        written, an earlier attempt of this very write was applied and only its
        reply was lost.
        """
        items = [write["Put"]["Item"] for write in writes if "Put" in write]
        try:
            if len(writes) == 1 and items:
                self.dynamodb.put_item(**writes[0]["Put"])
            else:
                token = hashlib.sha256(json.dumps(writes, sort_keys=True).encode()).hexdigest()[:36]
                self.dynamodb.transact_write_items(TransactItems=list(writes), ClientRequestToken=token)
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code == "TransactionCanceledException":
                causes = {reason.get("Code") for reason in error.response.get("CancellationReasons", [])}
                if not causes & {"ConditionalCheckFailed", "TransactionConflict"}:
                    # The SDK does not try a cancelled transaction again, whatever cancelled it.
                    if causes & {"ThrottlingError", "ProvisionedThroughputExceeded"}:
                        raise AwsUnavailable("TransactWriteItems: throttled") from error
                    raise
            elif code not in ("ConditionalCheckFailedException", "TransactionConflictException"):
                raise
            if items and all(self._get_item(item["pk"]["S"], item["sk"]["S"]) == item for item in items):
                return
            places = [each.get("Item") or each["Key"] for write in writes for each in write.values()]
            taken = ", ".join(f"{place['pk']['S']} {place['sk']['S']}" for place in places)
            raise Conflict(f"another writer was first at one of: {taken}") from error


def _run_sk(run_id: str) -> str:
    number = run_id.removeprefix("run-")
    if not re.fullmatch("[0-9]{1,20}", number):
        raise BadMessage(f"{run_id[:100]!r} is not the id of a run, such as run-00000001")
    return f"RUN#{int(number):08d}"


def _key(pk: str, sk: str) -> Item:
    return {"pk": {"S": pk}, "sk": {"S": sk}}


def _item(pk: str, sk: str, record: Any, **beside: Any) -> Item:
    body = record if isinstance(record, Mapping) else asdict(record)
    item = _key(pk, sk)
    item["body"] = {"S": json.dumps(body, sort_keys=True, allow_nan=False)}
    for name, value in beside.items():
        item[name] = {"N": str(value)} if isinstance(value, int) else {"S": str(value)}
    return item


def _put(table: str, item: Item, guard: str, expected: int | str | None) -> Item:
    """A put that applies only while the attribute `guard` has the value `expected`; None: no such item."""
    return {"Put": {"TableName": table, "Item": item, **_while(guard, expected)}}


def _check(table: str, pk: str, sk: str, guard: str, expected: int | str | None) -> Item:
    """Writes nothing, but lets a transaction apply only while that item's attribute `guard` has that value."""
    return {"ConditionCheck": {"TableName": table, "Key": _key(pk, sk), **_while(guard, expected)}}


def _delete(table: str, pk: str, sk: str, guard: str = "", expected: str = "") -> Item:
    """A delete that applies only while `guard`, if there is one, has the value `expected`, or the item is gone."""
    delete: Item = {"TableName": table, "Key": _key(pk, sk)}
    if guard:
        delete |= _while(guard, expected)
        delete["ConditionExpression"] += " OR attribute_not_exists(#guard)"
    return {"Delete": delete}


def _while(guard: str, expected: int | str | None) -> Item:
    names = {"#guard": guard}
    if expected is None:
        return {"ConditionExpression": "attribute_not_exists(#guard)", "ExpressionAttributeNames": names}
    value = {"N": str(expected)} if isinstance(expected, int) else {"S": expected}
    return {
        "ConditionExpression": "#guard = :expected",
        "ExpressionAttributeNames": names,
        "ExpressionAttributeValues": {":expected": value},
    }


def _read(kind: type[T], item: Item) -> T:
    return from_dict(kind, json.loads(item["body"]["S"]))


def from_dict(kind: type[T], document: Mapping[str, Any]) -> T:
    """A record from its JSON; fields that a newer release added to the JSON are passed over."""
    hints = _hints(kind)  # type: ignore[arg-type]  # mypy doubts that classes are hashable
    return kind(**{name: _value(hints[name], value) for name, value in document.items() if name in hints})


@cache
def _hints(kind: type) -> dict[str, Any]:
    # Evaluated anew for each of a model's thousands of uploads, they took most of the time of an answer.
    return get_type_hints(kind)


def _value(hint: Any, value: Any) -> Any:
    if value is None:
        return None
    if isinstance(hint, type) and issubclass(hint, Enum):
        return hint(value)
    if get_origin(hint) is tuple:
        inner = get_args(hint)[0]
        if hasattr(inner, "__dataclass_fields__"):
            return tuple(from_dict(inner, each) for each in value)
        return tuple(value)
    if isinstance(value, list):
        return tuple(value)  # the optional pairs
    return value
