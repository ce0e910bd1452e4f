"""Handlers that do as the event says, so that a test can see how the engine takes it."""

import json
import os
import sys
import time
import uuid
from typing import Any

import boto3

dynamodb = boto3.client("dynamodb")
s3 = boto3.client("s3")


class Refused(Exception):
    """What a domain function may raise."""


class Busy(Exception):
    """What a state machine may retry."""


def remember(kind: str, seen: Any) -> None:
    item = {"pk": {"S": kind}, "sk": {"S": str(uuid.uuid4())}, "seen": {"S": json.dumps(seen)}}
    dynamodb.put_item(TableName=os.environ["TABLE"], Item=item)


def times_seen(kind: str) -> int:
    answer = dynamodb.query(
        TableName=os.environ["TABLE"],
        KeyConditionExpression="pk = :pk",
        ExpressionAttributeValues={":pk": {"S": kind}},
        ConsistentRead=True,
    )
    return answer["Count"]


def intake(event: dict, context: Any) -> dict:
    [message] = event["Records"]
    upload = json.loads(message["body"])["detail"]["object"]
    remember(upload["key"], upload)
    if "raises" in upload["key"]:
        raise Refused(upload["key"])
    failed = [{"itemIdentifier": message["messageId"]}] if "reports" in upload["key"] else []
    return {"batchItemFailures": failed}


def record(event: dict, context: Any) -> None:
    remember(event["detail-type"], event)


def fail_always(event: dict, context: Any) -> None:
    remember("Failing", {"at": time.time()})
    raise Refused("always")


def probe(event: dict, context: Any) -> Any:
    match event["do"]:
        case "echo":
            return event
        case "raise":
            raise Refused("said no")
        case "busy":  # twice, then well
            remember(event["name"], {})
            if times_seen(event["name"]) < 3:
                raise Busy("try again")
            return "done"
        case "ask":  # fails as often as the event says
            remember(event["name"], event["token"])
            if times_seen(event["name"]) <= event["fail"]:
                raise Busy("not asked")
            return "asked"
        case "exit":
            sys.exit(3)
        case "sleep":
            time.sleep(event["seconds"])
            return os.getpid()
        case "pid":
            return os.getpid()
        case "environment":
            return {"variables": dict(os.environ), "path": sys.path}
        case "layers":
            import own
            import refit_models

            return {"own": own.WORD, "from": own.__file__, "models": refit_models.names()}
        case "write":
            s3.put_object(Bucket=event["bucket"], Key=event["key"], Body=b"1")
            time.sleep(0.2)
            return os.getpid()
        case "call":  # any service, any operation
            client = boto3.client(event["service"])
            getattr(client, event["operation"])(**event["arguments"])
            return "done"
    raise LookupError(event["do"])
