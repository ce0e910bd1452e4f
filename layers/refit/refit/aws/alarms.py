"""The quality metric of a model and the alarm that watches it."""

from __future__ import annotations

from typing import Any

from refit.aws.registry import Registry
from refit.models import ModelSpec
from refit.records import Version

PERIOD = 60  # seconds; one labelled upload is one point


def namespace(stack: str) -> str:
    return f"Refit/{stack}"


def alarm_name(stack: str, model: str) -> str:
    return f"{stack}-quality-{model}"


def model_of_alarm(stack: str, name: str) -> str | None:
    """The model whose quality an alarm watches, None for an alarm that is not Refit's."""
    prefix = alarm_name(stack, "")
    return name.removeprefix(prefix) if name.startswith(prefix) and name != prefix else None


def metric_name(model: str, version: str = "") -> str:
    """Of a model's scores, or of those of one version, which its alarm watches.

    A name for each, not a dimension: local engines do not tell metrics apart by dimensions.
    """
    return f"Quality-{model}-{version}" if version else f"Quality-{model}"


def publish(cloudwatch: Any, stack: str, model: str, version: str, score: float, rows: int) -> None:
    """Publish the champion's score on an upload, with its sample size."""
    cloudwatch.put_metric_data(
        Namespace=namespace(stack),
        MetricData=[
            {"MetricName": metric_name(model), "Value": score, "Unit": "None"},
            {"MetricName": metric_name(model, version), "Value": score, "Unit": "None"},
            {"MetricName": f"QualityRows-{model}", "Value": rows, "Unit": "Count"},
        ],
    )


def follow(cloudwatch: Any, stack: str, registry: Registry, spec: ModelSpec) -> None:
    """Let the alarm watch the champion, whoever made it that.

    The champion may move while this is under way, and another one's alarm come
    before this one: what was watched is the champion still, or it is done again.
    """
    watched = None
    while (champion := registry.champion(spec.name)) and champion.generation != watched:
        version = registry.version(spec.name, champion.version)
        assert version, champion.version  # a champion is recorded before it is one
        watch(cloudwatch, stack, version, spec)
        watched = champion.generation


def watch(cloudwatch: Any, stack: str, version: Version, spec: ModelSpec) -> None:
    """Let the alarm watch for scores below what the champion showed when it was tested.

    It watches this version's scores only: what the one before it scored says
    nothing of this one. Without a tested score (an imported champion), and
    where quality is no trigger, the alarm goes. Repeating this changes nothing
    but the alarm's state, which starts anew.
    """
    name = alarm_name(stack, version.model)
    if version.tested_low is None or not spec.triggers.quality:
        cloudwatch.delete_alarms(AlarmNames=[name])
        return
    cloudwatch.put_metric_alarm(
        AlarmName=name,
        AlarmDescription=(
            f"{spec.gates.metric} of {version.model} on new data, below what {version.version} showed when it was "
            f"tested: {version.tested_score:.4f}, by sampling alone at least {version.tested_low:.4f}"
        ),
        Namespace=namespace(stack),
        MetricName=metric_name(version.model, version.version),
        Statistic="Minimum",
        Period=PERIOD,
        EvaluationPeriods=1,
        Threshold=version.tested_low,
        ComparisonOperator="LessThanThreshold",
        TreatMissingData="missing",  # no data is neither good nor bad, and the next bad upload alarms anew
        ActionsEnabled=True,
    )
    reason = f"{version.version} has not been scored on new data yet"
    cloudwatch.set_alarm_state(AlarmName=name, StateValue="INSUFFICIENT_DATA", StateReason=reason)
