"""Corrects the alarms of the emulator's CloudWatch, and puts the events about their states on the default bus.

The emulator keeps times in whole seconds, forgets when a metric alarm changed its state, records the creation of an
alarm as a change of its state, and ignores an alarm's dimensions and its treatment of missing data. A bake compares all
of these, so this module corrects them.

The emulator evaluates an alarm when the alarm or any metric is put, and never by itself.
"""

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from ministack.core.responses import get_account_id, get_region
from ministack.services import cloudwatch

from local_cloud import buses
from local_cloud.services import Json

# The state of an alarm without data, by its TreatMissingData. With `ignore`, an alarm keeps its state.
WITHOUT_DATA = {"notBreaching": "OK", "breaching": "ALARM", "missing": "INSUFFICIENT_DATA"}
COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "GreaterThanOrEqualToThreshold": lambda value, threshold: value >= threshold,
    "GreaterThanThreshold": lambda value, threshold: value > threshold,
    "LessThanThreshold": lambda value, threshold: value < threshold,
    "LessThanOrEqualToThreshold": lambda value, threshold: value <= threshold,
}
# These fields of an alarm are not its configuration.
STATE_FIELDS = {
    "AlarmConfigurationUpdatedTimestamp",
    "StateReason",
    "StateReasonData",
    "StateTransitionedTimestamp",
    "StateUpdatedTimestamp",
    "StateValue",
}


def install() -> None:
    """Patches the emulator."""
    cloudwatch._record_history = _record_history
    cloudwatch._json_timestamp = _in_json
    cloudwatch._evaluate_alarm = _evaluate_alarm
    cloudwatch._put_metric_alarm = _configuring(cloudwatch._put_metric_alarm)
    cloudwatch._put_composite_alarm = _configuring(cloudwatch._put_composite_alarm)
    cloudwatch._delete_alarms = _delete_alarms
    cloudwatch.cloudformation_put_metric_alarm = _put_alarm_of_template
    cloudwatch.cloudformation_delete_metric_alarm = _delete_alarm_of_template


def _record_history(
    name: str, old: str, new: str, reason: str, kind: str = "MetricAlarm", reason_data: Json | None = None
) -> None:
    """Records a change of state with its time in milliseconds, and emits the event about it."""
    if old == new:
        # This is the emulator's entry for a new alarm. `_configured` records the creation as AWS does.
        return
    alarm, now = _alarm(name), time.time()
    before = {"value": old, "timestamp": _in_event(alarm.get("StateTransitionedTimestamp", now))}
    alarm.update(StateUpdatedTimestamp=now, StateTransitionedTimestamp=now)
    states: Json = {"stateValue": new, "stateReason": reason}
    data = {"version": "1.0", "oldState": {"stateValue": old}, "newState": states}
    event: Json = {"value": new, "reason": reason, "timestamp": _in_event(now)}
    if reason_data is not None:
        states["stateReasonData"] = reason_data
        event["reasonData"] = json.dumps(reason_data)
    _append(name, kind, "StateUpdate", f"Alarm updated from {old} to {new}", data, now)
    detail = {"alarmName": name, "configuration": _described(alarm), "previousState": before, "state": event}
    arn = alarm["AlarmArn"]
    buses.emit(get_account_id(), get_region(), "aws.cloudwatch", "CloudWatch Alarm State Change", detail, [arn])


def _in_json(value: Any) -> Any:
    """A time in an answer in JSON. The emulator would drop the milliseconds."""
    return cloudwatch._parse_ts(value) if isinstance(value, str) else value


def _alarm(name: str) -> Json:
    alarm: Json = cloudwatch._alarms.get(name) or cloudwatch._composite_alarms[name]
    return alarm


def _in_event(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, tz=UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "+0000"


def _described(alarm: Json) -> Json:
    """The alarm's configuration as the event about a change of state has it."""
    configuration: Json = {"description": alarm.get("AlarmDescription") or ""}
    if "AlarmRule" in alarm:
        return configuration | {"alarmRule": alarm["AlarmRule"]}
    dimensions = {one["Name"]: one["Value"] for one in alarm["Dimensions"]}
    metric = {"namespace": alarm["Namespace"], "name": alarm["MetricName"], "dimensions": dimensions}
    statistic = {"metric": metric, "period": alarm["Period"], "stat": _statistic(alarm)}
    return configuration | {"metrics": [{"id": "m1", "metricStat": statistic, "returnData": True}]}


def _statistic(alarm: Json) -> str:
    statistic: str = alarm.get("ExtendedStatistic") or alarm["Statistic"]
    return statistic


def _append(name: str, kind: str, item: str, summary: str, data: Json, now: float) -> None:
    entry = {
        "AlarmName": name,
        "AlarmType": kind,
        "Timestamp": datetime.fromtimestamp(now, tz=UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "HistoryItemType": item,
        "HistorySummary": summary,
        "HistoryData": json.dumps(data),
    }
    cloudwatch._history_entries().append(entry)


def _evaluate_alarm(alarm: Json) -> None:
    """Compares the metric of the last periods, taken together, with the threshold."""
    compare = COMPARISONS.get(alarm.get("ComparisonOperator") or "")
    if compare is None or not alarm.get("MetricName"):
        return
    dimensions = {one["Name"]: one["Value"] for one in alarm["Dimensions"]}
    key = (alarm["Namespace"], alarm["MetricName"], cloudwatch._dims_key(dimensions))
    begin = time.time() - alarm["Period"] * alarm["EvaluationPeriods"]
    points = [one for one in cloudwatch._metrics.get(key) or [] if one["Timestamp"] >= begin]
    value = cloudwatch._stat_value(cloudwatch._calc_stats(points), _statistic(alarm), points) if points else None
    old, threshold = alarm["StateValue"], alarm["Threshold"]
    if value is None:
        new = WITHOUT_DATA.get(alarm["TreatMissingData"], old)
        reason = f"Insufficient Data: no datapoint was received and missing datapoints are {alarm['TreatMissingData']}"
    else:
        breaches = compare(value, threshold)
        new = "ALARM" if breaches else "OK"
        reason = f"Threshold Crossed: {value} was {'' if breaches else 'not '}{alarm['ComparisonOperator']} {threshold}"
    if new == old:
        return
    alarm.update(StateValue=new, StateReason=reason)
    cloudwatch._record_history(alarm["AlarmName"], old, new, reason)
    cloudwatch._dispatch_alarm_actions(alarm, old, new, reason)
    cloudwatch._evaluate_parent_alarms(alarm)


def _configuring(put: Callable[..., Any]) -> Callable[..., Any]:
    """Wraps an operation that creates or updates an alarm."""

    def put_alarm(params: Json, data: Json, is_cbor: bool, is_json: bool = False) -> Any:
        name = data.get("AlarmName", "") if is_cbor or is_json else cloudwatch._p(params, "AlarmName")
        before = cloudwatch._alarms.get(name) or cloudwatch._composite_alarms.get(name)
        answer = put(params, data, is_cbor, is_json)
        if answer[0] == 200:
            _configured(name, before)
        return answer

    return put_alarm


def _configured(name: str, before: Json | None) -> None:
    """Records that an alarm was created or updated. `before` is the alarm before the update."""
    alarm, now = _alarm(name), time.time()
    alarm["AlarmConfigurationUpdatedTimestamp"] = now
    alarm.setdefault("StateTransitionedTimestamp", (before or {}).get("StateTransitionedTimestamp", now))
    kind = "CompositeAlarm" if "AlarmRule" in alarm else "MetricAlarm"
    done = "updated" if before else "created"
    data = {"version": "1.0", "type": "Update" if before else "Create"}
    _append(name, kind, "ConfigurationUpdate", f'Alarm "{name}" {done}', data, now)


_emulator_delete_alarms = cloudwatch._delete_alarms


def _delete_alarms(params: Json, data: Json, is_cbor: bool, is_json: bool = False) -> Any:
    before = _all_alarms()
    answer = _emulator_delete_alarms(params, data, is_cbor, is_json)
    for name in before.keys() - _all_alarms().keys():
        _deleted(name, before[name])
    return answer


def _all_alarms() -> dict[str, Json]:
    return dict(cloudwatch._alarms.items()) | dict(cloudwatch._composite_alarms.items())


def _deleted(name: str, alarm: Json) -> None:
    """Records that an alarm was deleted. As on AWS, the alarm's history stays."""
    kind = "CompositeAlarm" if "AlarmRule" in alarm else "MetricAlarm"
    data = {"version": "1.0", "type": "Delete"}
    _append(name, kind, "ConfigurationUpdate", f'Alarm "{name}" deleted', data, time.time())


_emulator_put_alarm_of_template = cloudwatch.cloudformation_put_metric_alarm


def _put_alarm_of_template(alarm: Json) -> None:
    before = cloudwatch._alarms.get(alarm["AlarmName"])
    if before and _configuration(before) == _configuration(alarm):
        # CloudFormation does not touch a resource whose properties are unchanged.
        return
    _emulator_put_alarm_of_template(alarm)
    _configured(alarm["AlarmName"], before)


def _configuration(alarm: Json) -> Json:
    return {key: value for key, value in alarm.items() if key not in STATE_FIELDS}


_emulator_delete_alarm_of_template = cloudwatch.cloudformation_delete_metric_alarm


def _delete_alarm_of_template(name: str, refuse_dependents: bool = False) -> None:
    alarm = cloudwatch._alarms.get(name)
    _emulator_delete_alarm_of_template(name, refuse_dependents)
    if alarm:
        _deleted(name, alarm)
