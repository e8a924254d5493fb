"""The smoke check that lets an alarm of its own ring for a moment, and reads what a bake would read."""

from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

from tools.operations.facts import Place, Seen, eventually, fails, holds, uninterrupted, unique_name

# CloudWatch may show a change of state a moment later.
HISTORY_SECONDS = 60
FLAP = [("INSUFFICIENT_DATA", "ALARM"), ("ALARM", "OK")]


def flap_stays_in_history(place: Place) -> Seen:
    """Creates an alarm without data, sets it to ALARM and to OK, and looks for both in the alarm's history."""
    cloudwatch, name = place.client("cloudwatch"), unique_name()
    since = datetime.now(UTC) - timedelta(seconds=1)
    with ExitStack() as stack:
        with uninterrupted():
            cloudwatch.put_metric_alarm(
                AlarmName=name,
                AlarmDescription=f"Smoke check of {place.target.stack}",
                Namespace=name,
                MetricName="Nothing",
                Statistic="Sum",
                Period=60,
                EvaluationPeriods=1,
                Threshold=0,
                ComparisonOperator="GreaterThanThreshold",
                # CloudWatch keeps the state of an alarm without data, so that only this check changes it.
                TreatMissingData="ignore",
            )
            stack.callback(place.remove, f"alarm {name}", cloudwatch.delete_alarms, AlarmNames=[name])
        for _, state in FLAP:
            cloudwatch.set_alarm_state(AlarmName=name, StateValue=state, StateReason="Smoke check")
        seconds = eventually(lambda: set(FLAP) <= set(_changes(cloudwatch, name, since)), HISTORY_SECONDS)
        (alarm,) = cloudwatch.describe_alarms(AlarmNames=[name])["MetricAlarms"]
        found = _changes(cloudwatch, name, since)
    if seconds is None:
        return fails(f"after {HISTORY_SECONDS} s, the history has {found or 'no change of state'}")
    if alarm.get("StateTransitionedTimestamp", since) <= since:
        return fails("the alarm does not show when it changed its state (StateTransitionedTimestamp)")
    return holds(f"the history showed ALARM and OK after {seconds:.0f} s")


def _changes(cloudwatch: Any, name: str, since: datetime) -> list[tuple[str, str]]:
    """The changes of state in the alarm's history, each as the old state and the new state."""
    request = {"AlarmName": name, "HistoryItemType": "StateUpdate", "StartDate": since, "EndDate": datetime.now(UTC)}
    summaries = [one["HistorySummary"] for one in cloudwatch.describe_alarm_history(**request)["AlarmHistoryItems"]]
    return [change for change in FLAP if f"Alarm updated from {change[0]} to {change[1]}" in summaries]
