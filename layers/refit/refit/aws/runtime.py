"""What a function is given: settings, models and clients, made once; and errors with names."""

from __future__ import annotations

import functools
import hashlib
import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

import boto3
from aws_lambda_powertools import Logger, Metrics
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from refit import times
from refit.aws.bus import Bus
from refit.aws.registry import Registry
from refit.aws.settings import Settings
from refit.aws.store import Store
from refit.errors import AwsUnavailable, BadMessage, RefitError, UnknownModel
from refit.models import ModelSpec, find_models
from refit.records import Refusal

warnings.filterwarnings("ignore", "No application metrics to publish")  # most functions have none
logger = Logger()
metrics = Metrics()

# Standard mode backs off on throttling by itself; what remains is retried by queue, bus or state machine.
_CONFIG = Config(retries={"mode": "standard", "total_max_attempts": 5}, connect_timeout=5, read_timeout=60)
_TRANSIENT = {
    "ConditionalRequestConflict",
    "InternalError",
    "InternalFailure",
    "InternalServerError",
    "LimitExceededException",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "RequestTimeout",
    "ServiceUnavailable",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
    "TransactionInProgressException",
}
LONGEST_WORDS = 600  # characters of an exception: five candidates and their traces stay below 32 KB


@dataclass(frozen=True)
class App:
    """Everything a handler works with; clients are made when first used."""

    settings: Settings

    @cached_property
    def models(self) -> dict[str, ModelSpec]:
        return find_models(self.settings.models_dir)

    @cached_property
    def s3(self) -> Any:
        return boto3.client("s3", config=_CONFIG)

    @cached_property
    def store(self) -> Store:
        return Store(self.s3, self.settings.store_bucket)

    @cached_property
    def registry(self) -> Registry:
        return Registry(boto3.client("dynamodb", config=_CONFIG), self.settings.table)

    @cached_property
    def bus(self) -> Bus:
        return Bus(boto3.client("events", config=_CONFIG), self.settings.event_bus)

    @cached_property
    def sfn(self) -> Any:
        return boto3.client("stepfunctions", config=_CONFIG)

    @cached_property
    def sqs(self) -> Any:
        return boto3.client("sqs", config=_CONFIG)

    @cached_property
    def cloudwatch(self) -> Any:
        return boto3.client("cloudwatch", config=_CONFIG)


@functools.lru_cache(maxsize=1)
def app_of(settings: Settings) -> App:
    return App(settings)


def utc_now(later: int = 0) -> str:
    """Now, or so many seconds later, ISO 8601 in UTC to the second."""
    return times.text(datetime.now(UTC) + timedelta(seconds=later))


Handler = Callable[[Any, Any], Any]


def entrypoint(function: Callable[[Any, App], Any]) -> Handler:
    """Make a Lambda handler of `function(event, app)`.

    Adds structured logs and metrics, and gives failures of AWS the names by
    which the state machine retries them. No event is logged: it may hold data.
    """

    @logger.inject_lambda_context(clear_state=True)
    @metrics.log_metrics
    @functools.wraps(function)
    def handler(event: Any, context: Any) -> Any:
        try:
            return function(event, app_of(Settings.from_env()))
        except RefitError as error:
            _shorten(error)
            logger.error("refused", extra={"error": type(error).__name__, "message_to_people": str(error)})
            raise
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            if code in _TRANSIENT or status >= 500:
                raise AwsUnavailable(f"{error.operation_name}: {code}") from error
            raise
        except BotoCoreError as error:  # connection refused or reset, timeouts
            raise AwsUnavailable(f"{type(error).__name__}: {error}") from error
        except Exception as error:
            _shorten(error)
            raise

    return handler


def _shorten(error: Exception) -> None:
    """Cut what an exception says: of each candidate that fails it travels through the state machine."""
    if len(error.args) == 1 and isinstance(error.args[0], str):
        error.args = (error.args[0][:LONGEST_WORDS],)


def refusing(function: Callable[[Any, App], Any]) -> Callable[[Any, App], Any]:
    """For functions that events invoke: what makes no sense is recorded and not tried again.

    Another try would not make an unknown shape or an unknown model known.
    """

    @functools.wraps(function)
    def refuse(event: Any, app: App) -> Any:
        try:
            return function(event, app)
        except (BadMessage, UnknownModel) as error:
            return {"answer": "refused", "reasons": [turn_away(event, error, function.__module__, app)]}

    return refuse


def turn_away(event: Any, error: Exception, where: str, app: App) -> str:
    """Record that an event was refused; returns why, in words."""
    fields = event if isinstance(event, dict) else {}
    text = json.dumps(event, sort_keys=True, default=str)

    def told(name: str, otherwise: str, most: int = 100) -> str:
        # Halves of surrogate pairs are valid JSON, but no text that can be stored.
        return str(fields.get(name) or otherwise)[:most].encode(errors="replace").decode()

    refusal = Refusal(
        event_id=told("id", hashlib.sha256(text.encode()).hexdigest()[:32]),
        at=told("time", utc_now(), 40),
        function=where,
        error=type(error).__name__,
        message=str(error)[:1000],
        source=told("source", ""),
        detail_type=told("detail-type", ""),
    )
    app.registry.refuse(refusal)
    metrics.add_metric("EventsRefused", "Count", 1)
    logger.warning("refused", extra={"error": refusal.error, "message_to_people": refusal.message})
    return refusal.message
