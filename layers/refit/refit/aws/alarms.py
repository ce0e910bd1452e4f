"""The quality metric of a model and the alarm that watches it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from refit.models import ModelSpec
from refit.records import Quality, Version

PERIOD = 60  # seconds; one labelled upload is one point


def namespace(stack: str) -> str:
    return f"Refit/{stack}"


def alarm_name(stack: str, model: str) -> str:
    return f"{stack}-quality-{model}"


def model_of_alarm(stack: str, name: str) -> str | None:
    """The model whose quality an alarm watches, None for an alarm that is not Refit's."""
    prefix = alarm_name(stack, "")
    return name.removeprefix(prefix) if name.startswith(prefix) and name != prefix else None


def models_of(stack: str, name: str, models: Mapping[str, ModelSpec]) -> list[str]:
    """The models for which an alarm is a trigger: Refit's own one, and those that name it in model.toml."""
    own = model_of_alarm(stack, name)
    return [
        model
        for model, spec in models.items()
        if name in spec.triggers.alarms or (model == own and spec.triggers.quality)
    ]


def metric_name(model: str) -> str:
    """Of a model's scores. A name for each, not a dimension: local engines do not tell metrics apart by those."""
    return f"Quality-{model}"


def margin_name(model: str, version: str) -> str:
    """Of what the scores of one version have over their floor, which its alarm watches."""
    return f"QualityMargin-{model}-{version}"


def publish(cloudwatch: Any, stack: str, quality: Quality) -> None:
    """Publish the champion's score on an upload, with its sample size, and its margin over the floor."""
    assert quality.score is not None
    points = [
        {"MetricName": metric_name(quality.model), "Value": quality.score, "Unit": "None"},
        {"MetricName": f"QualityRows-{quality.model}", "Value": quality.rows, "Unit": "Count"},
    ]
    if quality.floor is not None:
        margin = quality.score - quality.floor
        name = margin_name(quality.model, quality.version)
        points.append({"MetricName": name, "Value": margin, "Unit": "None"})
    cloudwatch.put_metric_data(Namespace=namespace(stack), MetricData=points)


def watch(cloudwatch: Any, stack: str, version: Version, spec: ModelSpec) -> None:
    """Let the alarm watch for scores below what the champion showed when it was tested.

    It watches the margin, not the score: what sampling alone may do depends on
    the rows of each upload. And it watches this version's only: what the one
    before it scored says nothing of this one. Without a tested score (an imported champion), and
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
            f"tested: {version.tested_score:.4f}, by sampling alone at least {version.tested_low:.4f} on "
            f"{version.tested_rows} rows"
        ),
        Namespace=namespace(stack),
        MetricName=margin_name(version.model, version.version),
        Statistic="Minimum",
        Period=PERIOD,
        EvaluationPeriods=1,
        Threshold=0.0,
        ComparisonOperator="LessThanThreshold",
        TreatMissingData="missing",  # no data is neither good nor bad, and the next bad upload alarms anew
        ActionsEnabled=True,
    )
    reason = f"{version.version} has not been scored on new data yet"
    cloudwatch.set_alarm_state(AlarmName=name, StateValue="INSUFFICIENT_DATA", StateReason=reason)
