"""A stack under moto: resources as template.yaml declares them, functions called in process as Lambda calls them."""

from __future__ import annotations

import functools
import importlib.util
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import boto3
import pandas as pd
import pytest
from botocore.exceptions import EndpointConnectionError
from moto import mock_aws
from rows import parquet
from sklearn.ensemble import HistGradientBoostingClassifier

from refit import artifact
from refit.aws import keys
from refit.aws.runtime import App, app_of
from refit.aws.settings import Settings
from refit.batches import Upload, upload_id
from refit.records import Generation
from refit_cli.actions import import_champion
from refit_cli.local.package import read_template

ROOT = Path(__file__).parents[1]
MODELS = ROOT / "tests/models"
TEMPLATE = read_template(ROOT / "template.yaml")
RESOURCES = TEMPLATE["Resources"]
ACCOUNT, REGION, STACK = "123456789012", "us-east-1", "refit"
UNREACHABLE = EndpointConnectionError(endpoint_url="https://aws.invalid")
_PSEUDO = {"AWS::AccountId": ACCOUNT, "AWS::Region": REGION, "AWS::StackName": STACK, "AWS::Partition": "aws"}


def sample(name: str, **changes: Any) -> Any:
    """An event of events/, with some of its top-level fields changed."""
    return json.loads((ROOT / f"events/{name}.json").read_text()) | changes


def environment() -> dict[str, str]:
    """The variables that the template gives to functions, all of them together."""
    found = dict(TEMPLATE["Globals"]["Function"]["Environment"]["Variables"])
    for resource in RESOURCES.values():
        found |= resource.get("Properties", {}).get("Environment", {}).get("Variables", {})
    return {name: str(resolve(value)) for name, value in found.items()}


def resolve(value: Any) -> Any:
    """A value of the template with its Ref, Fn::Sub and Fn::GetAtt worked out."""
    if isinstance(value, list):
        return [resolve(each) for each in value]
    if not isinstance(value, dict):
        return value
    if "Ref" in value:
        return _ref(value["Ref"])
    if "Fn::Sub" in value:
        return re.sub(r"\$\{([\w:.]+)}", lambda found: str(_named(found[1])), value["Fn::Sub"])
    if "Fn::GetAtt" in value:
        found = value["Fn::GetAtt"]
        return _named(found if isinstance(found, str) else ".".join(found))
    return {key: resolve(each) for key, each in value.items()}


def _named(name: str) -> str:
    resource, _, attribute = name.partition(".")
    assert attribute in ("", "Arn", "Name", "QueueName"), name
    if attribute in ("Name", "QueueName"):
        return _arn(resource).rpartition(":")[2]
    return _arn(resource) if attribute else _ref(resource)


def _ref(name: str) -> Any:
    if name in _PSEUDO:
        return _PSEUDO[name]
    if name in TEMPLATE["Parameters"]:
        return TEMPLATE["Parameters"][name]["Default"]
    kind, properties = RESOURCES[name]["Type"], RESOURCES[name].get("Properties", {})
    if kind == "AWS::S3::Bucket":
        return resolve(properties["BucketName"])
    if kind == "AWS::Events::EventBus":
        return resolve(properties["Name"])
    if kind == "AWS::SQS::Queue":
        return f"https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/{STACK}-{name}"
    by_arn = ("AWS::Serverless::StateMachine", "AWS::SNS::Topic")
    return _arn(name) if kind in by_arn else f"{STACK}-{name}"


def _arn(name: str) -> str:
    service, path = {
        "AWS::S3::Bucket": ("s3", ""),
        "AWS::DynamoDB::Table": ("dynamodb", "table/"),
        "AWS::Events::EventBus": ("events", "event-bus/"),
        "AWS::SQS::Queue": ("sqs", ""),
        "AWS::Serverless::Function": ("lambda", "function:"),
        "AWS::Serverless::StateMachine": ("states", "stateMachine:"),
        "AWS::Events::Rule": ("events", f"rule/{STACK}/"),
        "AWS::SNS::Topic": ("sns", ""),
    }[RESOURCES[name]["Type"]]
    if service == "s3":
        return f"arn:aws:s3:::{_ref(name)}"
    physical = _ref(name) if path == "event-bus/" else f"{STACK}-{name}"
    return f"arn:aws:{service}:{REGION}:{ACCOUNT}:{path}{physical}"


def definition() -> str:
    """The state machine with its substitutions."""
    machine = RESOURCES["RetrainingStateMachine"]["Properties"]
    text = (ROOT / machine["DefinitionUri"]).read_text()
    for name, value in resolve(machine["DefinitionSubstitutions"]).items():
        text = text.replace(f"${{{name}}}", value)
    return text


@dataclass(frozen=True)
class Context:
    """What Lambda tells a function of its invocation."""

    function_name: str
    memory_limit_in_mb: int = 512
    invoked_function_arn: str = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{STACK}"
    aws_request_id: str = "c6af9ac6-7b61-11e6-9a41-93e8deadbeef"


@dataclass
class Stack:
    """What tests do to a stack and see of it."""

    app: App
    heard_at: str  # URL of a queue that hears all that the bus carries
    warm: dict[str, ModuleType] = field(default_factory=dict)

    # ------------------------------------------------------------ functions
    def call(self, name: str, event: Any) -> Any:
        """Invoke a function in its warm environment, through JSON both ways."""
        event = json.loads(json.dumps(event))
        return json.loads(json.dumps(self._module(name).handler(event, Context(name))))

    def cold_start(self) -> None:
        """Functions forget what they kept between invocations."""
        self.warm.clear()

    def _module(self, name: str) -> ModuleType:
        if name not in self.warm:
            spec = importlib.util.spec_from_file_location(name, ROOT / f"functions/{name}.py")
            assert spec and spec.loader
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            self.warm[name] = module
        return self.warm[name]

    @contextmanager
    def outage(
        self,
        client: Any,
        operation: str,
        holding: str = "",
        error: BaseException = UNREACHABLE,
        times: int = 99,
    ) -> Iterator[None]:
        """The next `times` requests of that client and operation fail whose path or body holds that text."""
        left = iter(range(times))

        def refuse(params: Mapping[str, Any], **_: Any) -> None:
            body = params["body"].decode() if isinstance(params["body"], bytes) and holding else ""
            if holding in params["url_path"] + body and next(left, None) is not None:
                raise error

        with happening(client, operation, refuse):
            yield

    def tick(self) -> Any:
        """events/tick.json to the function that it wakes."""
        return self.call("tick", sample("tick"))

    @contextmanager
    def delivering(self) -> Iterator[None]:
        """Requests for a retraining reach request_retraining the moment the bus takes them."""

        def deliver(**_: Any) -> None:
            for event in self.heard("Retraining Requested"):
                self.call("request_retraining", event)

        meta = self.app.bus.events.meta
        meta.events.register("after-call.*.PutEvents", deliver)
        try:
            yield
        finally:
            meta.events.unregister("after-call.*.PutEvents", deliver)

    @contextmanager
    def counted(self) -> Iterator[Counter[str]]:
        """How often each operation of AWS is called by the functions."""
        calls: Counter[str] = Counter()
        clients = [self.app.s3, self.app.registry.dynamodb, self.app.bus.events]
        clients += [self.app.sfn, self.app.sqs, self.app.cloudwatch]

        def count(model: Any, **_: Any) -> None:
            calls[model.name] += 1

        for each in clients:
            each.meta.events.register("before-call.*", count)
        try:
            yield calls
        finally:
            for each in clients:
                each.meta.events.unregister("before-call.*", count)

    # ------------------------------------------------------------ uploads
    def put(self, name: str, content: pd.DataFrame | bytes, model: str = "flights") -> tuple[str, str]:
        """Drop a file under incoming/<model>/; returns key and version."""
        body = content if isinstance(content, bytes) else parquet(content)
        key = keys.incoming(model, name)
        put = self.app.s3.put_object(Bucket=self.app.settings.data_bucket, Key=key, Body=body)
        return key, put["VersionId"]

    def arrival(self, key: str, version_id: str, tries: int = 1, bucket: str = "") -> Any:
        """events/validate.json, of that object version."""
        event = sample("validate")
        record = event["Records"][0]
        record["attributes"]["ApproximateReceiveCount"] = str(tries)
        body = json.loads(record["body"])
        body["detail"]["bucket"]["name"] = bucket or self.app.settings.data_bucket
        body["detail"]["object"] |= {"key": key, "version-id": version_id}
        record["body"] = json.dumps(body)
        return event

    def upload(self, name: str, content: pd.DataFrame | bytes, model: str = "flights") -> Upload:
        """Drop a file and let validate take it in; returns its record."""
        key, version_id = self.put(name, content, model)
        assert self.call("validate", self.arrival(key, version_id)) == {"batchItemFailures": []}
        found = self.recorded(key, version_id, model)
        assert found
        return found

    def sent(self) -> list[Any]:
        """What waits in the intake queue, as events of which validate gets one each; it waits no longer."""
        sqs, url, events = client("sqs"), self.app.settings.intake_queue, []
        while messages := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
            for message in messages:
                events.append(sample("validate"))
                events[-1]["Records"][0]["body"] = message["Body"]
                sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return events

    def recorded(self, key: str, version_id: str, model: str = "flights") -> Upload | None:
        return self.app.registry.upload(model, upload_id(self.app.settings.data_bucket, key, version_id))

    def profile_event(self, name: str, batch_id: str, model: str = "flights") -> Any:
        """events/check_drift.json or check_quality.json, of that batch."""
        event = sample(name)
        event["detail"]["object"]["key"] = keys.profile(model, batch_id)
        return event

    def versions_of(self, prefix: str) -> list[str]:
        """Keys in the store bucket under a prefix, each as often as it was written."""
        found = self.app.s3.list_object_versions(Bucket=self.app.settings.store_bucket, Prefix=prefix)
        return [version["Key"] for version in found.get("Versions", [])]

    # ------------------------------------------------------------ a run, step by step
    def walk(self, run_id: str, up_to: str = "", model: str = "flights") -> Any:
        """Take a run's steps by hand; returns what promote answered, or the event of the step `up_to`."""
        run = self.app.registry.run(model, run_id)
        assert run
        state: dict[str, Any] = {"model": model, "run_id": run_id, "inputs_key": run.inputs_key}
        each = [sample("train", **state, candidate=name) for name in run.candidates]
        if up_to == "train":
            return each[0]
        state["candidates"] = [{"name": name} for name in run.candidates]
        state["trained"] = [self.call("train", event) for event in each]
        for step, result in (("evaluate", "evaluation"), ("finalize", "final"), ("promote", "promotion")):
            event = sample(step, **state)
            if step == up_to:
                return event
            state[result] = self.call(step, event)
        return state["promotion"]

    def promoted(self, model: str, name: str, content: pd.DataFrame) -> Any:
        """Upload, ask, and take all steps; returns what promote answered."""
        self.upload(name, content, model)
        answer = self.ask(request_id=name, model=model)
        assert answer["answer"] == "retrain", answer
        return self.walk(answer["run_id"], model=model)

    def imported(self, frame: pd.DataFrame, path: Path) -> Generation:
        """Import a model fitted elsewhere, on numbers only, as the first champion of flights."""
        features = ["distance", "departure_minute", "temperature"]
        estimator = HistGradientBoostingClassifier(max_iter=10).fit(frame[features], frame["late"])
        path.write_bytes(artifact.dump(estimator)[0])
        return import_champion(self.app, self.app.models["flights"], path, "from the old system")

    # ------------------------------------------------------------ events and executions
    def heard(self, kind: str = "") -> list[dict[str, Any]]:
        """Events on the bus since the last call, each with the fields of its sample; other kinds are dropped."""
        sqs, events = client("sqs"), []
        while messages := sqs.receive_message(QueueUrl=self.heard_at, MaxNumberOfMessages=10).get("Messages"):
            for message in messages:
                events.append(json.loads(message["Body"]))
                sqs.delete_message(QueueUrl=self.heard_at, ReceiptHandle=message["ReceiptHandle"])
        for event in events:
            like = sample(f"outgoing/{event['detail-type'].lower().replace(' ', '-')}")
            assert event["detail"].keys() == like["detail"].keys()
        return [event for event in events if not kind or event["detail-type"] == kind]

    def ask(self, request_id: str = "r1", model: str = "flights", **detail: Any) -> Any:
        """Send events/request_retraining.json through the door; returns the answer."""
        event = sample("request_retraining")
        event["detail"] |= {"model": model, "request_id": request_id, **detail}
        return self.call("request_retraining", event)

    def ended(self, run_id: str, status: str = "ABORTED", model: str = "flights") -> Any:
        """events/request_retraining.run_ended.json, of that run."""
        event = sample("request_retraining.run_ended")
        event["detail"] |= {"name": f"{model}-{run_id}", "status": status}
        return event

    def executions(self) -> list[str]:
        """Names of all executions, oldest first."""
        machine = self.app.settings.state_machine
        found = self.app.sfn.list_executions(stateMachineArn=machine)["executions"]
        return [each["name"] for each in sorted(found, key=lambda each: each["startDate"])]

    def execution(self, name: str) -> dict[str, Any]:
        arn = f"{self.app.settings.state_machine.replace('stateMachine', 'execution')}:{name}"
        return self.app.sfn.describe_execution(executionArn=arn)


@contextmanager
def happening(client: Any, operation: str, what: Callable[..., None]) -> Iterator[None]:
    """Do something before each request of that client and operation."""
    event = f"before-call.*.{operation}"
    client.meta.events.register(event, what)
    try:
        yield
    finally:
        client.meta.events.unregister(event, what)


@contextmanager
def moto_stack(monkeypatch: pytest.MonkeyPatch, **config: Any) -> Iterator[Stack]:
    """An empty stack for one test, and the environment of its functions."""
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    monkeypatch.setenv("REFIT_MODELS_DIR", str(MODELS))
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    with mock_aws(config=config):
        _create()
        settings = Settings.from_env()
        yield Stack(app_of(settings), _listen(settings.event_bus))


@functools.cache
def client(service: str) -> Any:
    """A client for all tests: making one takes longer than most of what is done with it."""
    return boto3.client(service)


def _create() -> None:
    for name, resource in RESOURCES.items():
        properties = resolve(resource.get("Properties", {}))
        if resource["Type"] == "AWS::S3::Bucket":
            s3 = client("s3")
            s3.create_bucket(Bucket=properties["BucketName"])
            s3.put_bucket_versioning(
                Bucket=properties["BucketName"], VersioningConfiguration=properties["VersioningConfiguration"]
            )
        elif resource["Type"] == "AWS::DynamoDB::Table":
            wanted = {k: properties[k] for k in ("KeySchema", "AttributeDefinitions", "BillingMode")}
            client("dynamodb").create_table(TableName=_ref(name), **wanted)
        elif resource["Type"] == "AWS::SQS::Queue":
            client("sqs").create_queue(QueueName=f"{STACK}-{name}")
        elif resource["Type"] == "AWS::Events::EventBus":
            client("events").create_event_bus(Name=properties["Name"])
        elif resource["Type"] == "AWS::Serverless::StateMachine":
            client("stepfunctions").create_state_machine(
                name=f"{STACK}-{name}",
                definition=definition(),
                roleArn=f"arn:aws:iam::{ACCOUNT}:role/{STACK}-{name}",
                type=properties["Type"],
            )


def _listen(bus: str) -> str:
    url = client("sqs").create_queue(QueueName="heard")["QueueUrl"]
    events = client("events")
    events.put_rule(Name="all", EventBusName=bus, EventPattern=json.dumps({"source": ["refit"]}))
    arn = f"arn:aws:sqs:{REGION}:{ACCOUNT}:heard"
    events.put_targets(Rule="all", EventBusName=bus, Targets=[{"Id": "heard", "Arn": arn}])
    return url
