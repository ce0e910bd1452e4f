"""Between S3's events and the intake queue: they are held, and delivered late, shuffled, repeatedly or never."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable

from refit_cli.local import LocalStack

MOST_COPIES = 5
LATE = 0.3  # share of the repeats that come with a later round
SECONDS_TO_HOLD = 60


class Post:
    """Delivers what the rule UploadArrived would have. The events are S3's own."""

    def __init__(self, stack: LocalStack, seed: int) -> None:
        self.sqs, self.intake = stack.client("sqs"), stack.outputs["IntakeQueueUrl"]
        self.dead_letters = stack.outputs["DeadLetterQueueUrl"]
        self.sent = 0
        self._random = random.Random(seed)
        self._late: list[str] = []
        self._held = self.sqs.create_queue(QueueName="soak-held")["QueueUrl"]
        arn = self._attributes(self._held, "QueueArn")["QueueArn"]
        events = stack.client("events")
        names = [rule["Name"] for rule in events.list_rules()["Rules"]]
        rule = next(name for name in names if "UploadArrived" in name)
        events.put_targets(Rule=rule, Targets=[{"Id": "intake", "Arn": arn}])

    def deliver(self, events: int, lost: Callable[[str, str], bool]) -> None:
        """Hold that many new events; send those not lost one to five times, some of the repeats next time."""
        now, self._late = self._late, []
        for body in self._hold(events):
            found = json.loads(body)["detail"]["object"]
            if lost(found["key"], found["version-id"]):
                continue
            now.append(body)
            for _ in range(self._random.randrange(MOST_COPIES)):
                (self._late if self._random.random() < LATE else now).append(body)
        self._random.shuffle(now)
        self._send(now)

    def deliver_late(self) -> None:
        """The repeats that are left."""
        self.deliver(0, lambda key, version: False)

    def waiting(self) -> int:
        """Messages that are to be taken in, being taken in, or to be tried again."""
        names = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")
        return sum(int(value) for value in self._attributes(self.intake, *names).values())

    def dead(self) -> int:
        """Messages that were given up."""
        name = "ApproximateNumberOfMessages"
        return int(self._attributes(self.dead_letters, name)[name])

    def _attributes(self, queue: str, *names: str) -> dict[str, str]:
        return self.sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=list(names))["Attributes"]

    def _hold(self, events: int) -> list[str]:
        bodies: list[str] = []
        end = time.monotonic() + SECONDS_TO_HOLD
        while len(bodies) < events:
            got = self.sqs.receive_message(QueueUrl=self._held, MaxNumberOfMessages=10, WaitTimeSeconds=1)
            for message in got.get("Messages", []):
                bodies.append(message["Body"])
                self.sqs.delete_message(QueueUrl=self._held, ReceiptHandle=message["ReceiptHandle"])
            if time.monotonic() > end:
                raise TimeoutError(f"S3 told of {len(bodies)} of {events} uploads")
        return bodies

    def _send(self, bodies: list[str]) -> None:
        for first in range(0, len(bodies), 10):
            batch = [{"Id": str(i), "MessageBody": body} for i, body in enumerate(bodies[first : first + 10])]
            self.sqs.send_message_batch(QueueUrl=self.intake, Entries=batch)
        self.sent += len(bodies)
