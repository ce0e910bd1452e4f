"""A deployed stack, on AWS or on this machine alike: whichever the environment names."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    EndpointConnectionError,
    NoCredentialsError,
    NoRegionError,
)
from botocore.parsers import ResponseParserError

from refit.aws.runtime import App
from refit.aws.settings import Settings
from refit.errors import RefitError
from refit.models import ModelSpec

LOCAL_REGION = "us-east-1"  # of the stack that `refit local` starts

_LOCAL_TOO = ("AWS_ENDPOINT_URL", "AWS_MAX_ATTEMPTS")


class NoStack(RefitError):
    """The environment names no stack that answers; the message says how to name one."""


@dataclass(frozen=True)
class Deployment:
    """What the commands work with: the functions' own App, and the stack's outputs."""

    app: App
    outputs: dict[str, str]

    @staticmethod
    def find(models: Path) -> Deployment:
        """The stack that AWS_ENDPOINT_URL, the AWS credentials and REFIT_STACK name."""
        name = os.environ.get("REFIT_STACK", "refit")
        endpoint = os.environ.get("AWS_ENDPOINT_URL", "")
        if endpoint and not _is_url(endpoint):
            raise NoStack(f"AWS_ENDPOINT_URL is {endpoint!r}, which is no URL; such as http://127.0.0.1:4566")
        here = urlsplit(endpoint).hostname in ("127.0.0.1", "localhost")
        if here:
            _speak_to_this_machine_only()
        where = endpoint or "AWS"
        way_out = (
            "start one here with `refit local` and set the AWS_ENDPOINT_URL it prints, "
            "or name yours with REFIT_STACK and the usual AWS variables"
        )
        try:
            # Who does not answer so simple a question in time is something else, or hangs. Whether something listens on
            # this machine is known at once; the SDK's tries would take ten seconds.
            patience = Config(
                connect_timeout=10, read_timeout=20, retries={"total_max_attempts": 1 if here else 2}
            )
            answer = boto3.client("cloudformation", config=patience).describe_stacks(StackName=name)
        except EndpointConnectionError:
            raise NoStack(f"nothing answers at {where}; {way_out}") from None
        except (NoCredentialsError, NoRegionError):
            raise NoStack(
                f"AWS_ENDPOINT_URL is not set, nor are AWS credentials and region; {way_out}"
            ) from None
        except ResponseParserError:
            raise NoStack(f"what answers at {where} is not AWS, nor a local stack; {way_out}") from None
        except (ClientError, BotoCoreError, ValueError) as error:  # ValueError: a region that is none
            raise NoStack(f"no stack {name!r} at {where} ({error}); {way_out}") from None
        outputs = {each["OutputKey"]: each["OutputValue"] for each in answer["Stacks"][0].get("Outputs", [])}
        settings = Settings(
            table=outputs["RegistryTableName"],
            data_bucket=outputs["DataBucketName"],
            store_bucket=outputs["StoreBucketName"],
            event_bus=outputs["EventBusName"],
            stack=name,
            models_dir=models,
            max_upload_mb=1024,
            state_machine=outputs["RetrainingStateMachineArn"],
            intake_queue=outputs["IntakeQueueUrl"],
        )
        return Deployment(App(settings), outputs)

    def features(self, spec: ModelSpec) -> Sequence[Mapping[str, str]]:
        """Name and type of each column that the champion is shown; without one, those of the contract."""
        registry = self.app.registry
        if champion := registry.champion(spec.name):
            return registry.recorded(spec.name, champion.version).features
        return [{"name": each.name, "type": each.type.value} for each in spec.contract.features]

    def predict(self, model: str, records: list[dict[str, Any]]) -> dict[str, Any]:
        """Invoke the predict function; raises RefitError with its own words when it refuses."""
        answer = self._lambda.invoke(
            FunctionName=self.outputs["PredictFunctionName"],
            Payload=json.dumps({"model": model, "records": records}).encode(),
        )
        payload = json.loads(answer["Payload"].read())
        if "FunctionError" in answer:
            raise RefitError(f"{payload.get('errorType')}: {payload.get('errorMessage')}")
        return payload

    def invoke(self, name: str, event: Any, wait: bool) -> None:
        """Invoke a function by its name in template.yaml; raises RefitError when it was waited for and failed."""
        found = boto3.client("cloudformation").describe_stack_resource(
            StackName=self.app.settings.stack, LogicalResourceId=name
        )
        answer = self._lambda.invoke(
            FunctionName=found["StackResourceDetail"]["PhysicalResourceId"],
            InvocationType="RequestResponse" if wait else "Event",
            Payload=json.dumps(event).encode(),
        )
        if "FunctionError" in answer:
            failed = json.loads(answer["Payload"].read())
            raise RefitError(f"{name} failed: {failed.get('errorType')}: {failed.get('errorMessage')}")

    @property
    def _lambda(self) -> Any:
        # One invocation is one: the SDK's own retries would invoke anew what is only slow.
        return boto3.client("lambda", config=Config(read_timeout=320, retries={"total_max_attempts": 1}))


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is none
        return False


def _speak_to_this_machine_only() -> None:
    """Take out of the environment what speaks of AWS: profiles, files, regions, endpoints of single services; and proxies."""
    for name in [name for name in os.environ if name.startswith("AWS_") and name not in _LOCAL_TOO]:
        del os.environ[name]
    # The local stack asks for credentials, any will do; real ones never reach it.
    os.environ.update(
        AWS_ACCESS_KEY_ID="local",
        AWS_SECRET_ACCESS_KEY="local",
        AWS_CONFIG_FILE=os.devnull,
        AWS_SHARED_CREDENTIALS_FILE=os.devnull,
        AWS_DEFAULT_REGION=LOCAL_REGION,
        AWS_REGION=LOCAL_REGION,
    )
    for name in ("NO_PROXY", "no_proxy"):  # where both are set, the latter counts
        os.environ[name] = ",".join(filter(None, [os.environ.get(name), "127.0.0.1,localhost"]))
