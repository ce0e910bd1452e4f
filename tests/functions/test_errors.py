"""Failures of AWS get the names by which the state machine retries them; others keep theirs."""

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError
from moto_stack import UNREACHABLE, sample
from rows import flights

from refit.errors import AwsUnavailable, BadMessage, ConfigError


def refusal(code, status):
    answer = {"Error": {"Code": code, "Message": "no"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, "GetItem")


@pytest.mark.parametrize(
    "error",
    [
        UNREACHABLE,
        ReadTimeoutError(endpoint_url="https://aws.invalid"),
        refusal("ThrottlingException", 400),
        refusal("ProvisionedThroughputExceededException", 400),
        refusal("ConditionalRequestConflict", 409),
        refusal("SomethingNew", 503),
    ],
    ids=["unreachable", "slow", "throttled", "table throttled", "two writers at once", "any 503"],
)
def test_what_passes_by_itself_is_aws_unavailable(stack, error):
    with (
        stack.outage(stack.app.registry.dynamodb, "GetItem", error=error),
        pytest.raises(AwsUnavailable) as caught,
    ):
        stack.call("predict", sample("predict"))
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("cause", ["ThrottlingError", "ProvisionedThroughputExceeded"])
def test_a_transaction_that_was_throttled_is_aws_unavailable(stack, cause):
    """DynamoDB names the cause only inside of the cancellation, which the SDK does not look into."""
    stack.upload("2013-01.parquet", flights(400))
    error = refusal("TransactionCanceledException", 400)
    error.response["CancellationReasons"] = [{"Code": "None"}, {"Code": cause}]
    with (
        stack.outage(stack.app.registry.dynamodb, "TransactWriteItems", error=error, times=1),
        pytest.raises(AwsUnavailable),
    ):
        stack.ask()
    assert stack.ask()["answer"] == "retrain"


def test_a_permission_that_is_missing_is_not_tried_again(stack):
    error = refusal("AccessDeniedException", 400)
    with (
        stack.outage(stack.app.registry.dynamodb, "GetItem", error=error),
        pytest.raises(ClientError, match="AccessDenied"),
    ):
        stack.call("predict", sample("predict"))


def test_what_is_refused_is_logged_with_its_name_and_never_with_the_event(stack, logs):
    with pytest.raises(BadMessage):
        stack.call("predict", {"model": "flights", "records": "marker"})
    assert '"error":"BadMessage"' in logs.getvalue()
    assert "marker" not in logs.getvalue()


def test_a_missing_setting_is_named(stack, monkeypatch):
    monkeypatch.delenv("REFIT_TABLE")
    with pytest.raises(ConfigError, match="REFIT_TABLE is not set"):
        stack.call("predict", sample("predict"))
