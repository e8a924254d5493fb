"""The smoke checks about trains: what they report if AWS behaves differently from the local cloud."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from tools.operations import evidence, flaps
from tools.operations.facts import State


def place_with(client) -> Any:
    target = SimpleNamespace(stack="sekisho", parameters={})
    routes = [SimpleNamespace(pipeline="shop")]
    return SimpleNamespace(
        client=lambda _service: client,
        target=target,
        routes=routes,
        remove=lambda _what, operation, **request: operation(**request),
    )


class Alarms:
    """CloudWatch with one alarm, whose history has these summaries."""

    def __init__(self, history, **alarm):
        self.history, self.alarm, self.deleted = history, alarm, []

    def put_metric_alarm(self, **_request):
        pass

    def set_alarm_state(self, **_request):
        pass

    def delete_alarms(self, **request):
        self.deleted += request["AlarmNames"]

    def describe_alarms(self, **_request):
        return {"MetricAlarms": [self.alarm]}

    def describe_alarm_history(self, **_request):
        return {"AlarmHistoryItems": [{"HistorySummary": one} for one in self.history]}


BOTH = ["Alarm updated from INSUFFICIENT_DATA to ALARM", "Alarm updated from ALARM to OK"]
LATER = datetime.now(UTC) + timedelta(hours=1)


@pytest.mark.parametrize(
    ("history", "alarm", "state", "detail"),
    [
        (BOTH, {"StateTransitionedTimestamp": LATER}, State.HOLDS, "showed ALARM and OK"),
        (BOTH[1:], {"StateTransitionedTimestamp": LATER}, State.FAILS, "('ALARM', 'OK')"),
        ([], {"StateTransitionedTimestamp": LATER}, State.FAILS, "no change of state"),
        (BOTH, {}, State.FAILS, "StateTransitionedTimestamp"),
    ],
)
def test_a_flap_that_is_not_in_the_history_is_seen(monkeypatch, history, alarm, state, detail):
    monkeypatch.setattr(flaps, "HISTORY_SECONDS", 0)
    client = Alarms(history, **alarm)
    seen = flaps.flap_stays_in_history(place_with(client))
    assert (seen.state, detail in seen.detail) == (state, True), seen
    assert len(client.deleted) == 1


@pytest.mark.parametrize(
    ("executions", "state"),
    [
        ([], State.HIDDEN),
        ([("Succeeded", 60)], State.HIDDEN),
        ([("Stopped", 60), ("Succeeded", 0)], State.HOLDS),
        ([("Stopped", 60), ("Stopping", 1)], State.HOLDS),
        ([("Stopped", 60), ("Stopping", 6)], State.FAILS),
    ],
)
def test_an_execution_that_does_not_stop_is_seen(executions, state):
    now = datetime.now(UTC)
    found = [
        {"pipelineExecutionId": "1", "status": status, "lastUpdateTime": now - timedelta(minutes=minutes)}
        for status, minutes in executions
    ]
    client = SimpleNamespace(list_pipeline_executions=lambda **_request: {"pipelineExecutionSummaries": found})
    assert evidence.abandoned_executions_stop(place_with(client)).state == state
