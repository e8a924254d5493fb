"""Alarms: the events about their states, their history, and what an alarm shows about itself."""

import json
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta

import cbor2
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from tests.local_cloud.accounts import PRODUCTION, TEST, allow, code
from tests.local_cloud.test_buses import deploy
from tools.layout import REGION

SETTINGS = {
    "Namespace": "Shop",
    "MetricName": "Errors",
    "Dimensions": [{"Name": "Box", "Value": "one"}],
    "Statistic": "Sum",
    "Period": 60,
    "EvaluationPeriods": 1,
    "Threshold": 0.0,
    "ComparisonOperator": "GreaterThanThreshold",
    "TreatMissingData": "notBreaching",
}


@pytest.fixture
def alarms(cloud):
    """CloudWatch in the test account, without any alarm afterwards."""
    client = cloud.client("cloudwatch", TEST)
    yield client
    found = client.describe_alarms(AlarmTypes=["MetricAlarm", "CompositeAlarm"])
    for alarm in [*found["CompositeAlarms"], *found["MetricAlarms"]]:
        client.delete_alarms(AlarmNames=[alarm["AlarmName"]])


def one(client, name, kind="MetricAlarm"):
    (alarm,) = client.describe_alarms(AlarmNames=[name], AlarmTypes=[kind])[f"{kind}s"]
    return alarm


def ring(client, name, state="ALARM"):
    client.set_alarm_state(AlarmName=name, StateValue=state, StateReason="a test")


def history(client, name, item="StateUpdate", kind="MetricAlarm", **more):
    """Returns the summaries and the times of an alarm's history, the oldest first."""
    found = client.describe_alarm_history(
        AlarmName=name, HistoryItemType=item, AlarmTypes=[kind], ScanBy="TimestampAscending", **more
    )
    return [(entry["HistorySummary"], entry["Timestamp"]) for entry in found["AlarmHistoryItems"]]


def test_a_rule_gets_the_events_about_states(cloud, alarms):
    url, queue = cloud.queue(TEST, "alarm-states")
    events = cloud.client("events", TEST)
    pattern = {"source": ["aws.cloudwatch"], "detail-type": ["CloudWatch Alarm State Change"]}
    events.put_rule(Name="states", EventPattern=json.dumps(pattern | {"detail": {"state": {"value": ["ALARM"]}}}))
    events.put_targets(Rule="states", Targets=[{"Id": "queue", "Arn": queue}])
    alarms.put_metric_alarm(AlarmName="shop-errors", AlarmDescription="too many", **SETTINGS)
    alarms.put_composite_alarm(AlarmName="shop", AlarmRule='ALARM("shop-errors")')
    for state in ("ALARM", "ALARM", "OK"):
        ring(alarms, "shop-errors", state)
    # The rule matches only ALARM, and an alarm that is in ALARM already changes nothing.
    received = cloud.messages(TEST, url, 3, seconds=1)
    found = {event["detail"]["alarmName"]: event for event in received}
    assert len(received) == 2 and set(found) == {"shop-errors", "shop"}
    event = found["shop-errors"]
    assert (event["account"], event["region"], event["source"]) == (TEST, REGION, "aws.cloudwatch")
    assert event["resources"] == [f"arn:aws:cloudwatch:{REGION}:{TEST}:alarm:shop-errors"]
    detail = event["detail"]
    assert (detail["state"]["value"], detail["state"]["reason"]) == ("ALARM", "a test")
    assert detail["previousState"]["value"] == "OK"
    assert detail["configuration"]["description"] == "too many"
    (metric,) = detail["configuration"]["metrics"]
    assert metric["metricStat"]["metric"] == {"namespace": "Shop", "name": "Errors", "dimensions": {"Box": "one"}}
    assert found["shop"]["detail"]["configuration"]["alarmRule"] == 'ALARM("shop-errors")'


def test_an_account_without_the_alarm_gets_no_event(cloud, alarms):
    url, queue = cloud.queue(PRODUCTION, "other-alarm-states")
    events = cloud.client("events", PRODUCTION)
    events.put_rule(Name="states", EventPattern=json.dumps({"source": ["aws.cloudwatch"]}))
    events.put_targets(Rule="states", Targets=[{"Id": "queue", "Arn": queue}])
    alarms.put_metric_alarm(AlarmName="shop-errors", **SETTINGS)
    ring(alarms, "shop-errors")
    assert cloud.messages(PRODUCTION, url, seconds=0.5) == []


def test_composite_alarms_are_described_only_if_asked_for(alarms):
    alarms.put_metric_alarm(AlarmName="shop-errors", **SETTINGS)
    alarms.put_composite_alarm(AlarmName="shop", AlarmRule='ALARM("shop-errors")')
    found = alarms.describe_alarms(AlarmNamePrefix="shop")
    assert [alarm["AlarmName"] for alarm in found["MetricAlarms"]] == ["shop-errors"] and not found["CompositeAlarms"]
    both = alarms.describe_alarms(AlarmNamePrefix="shop", AlarmTypes=["MetricAlarm", "CompositeAlarm"])
    assert [alarm["AlarmName"] for alarm in both["CompositeAlarms"]] == ["shop"] and len(both["MetricAlarms"]) == 1
    ring(alarms, "shop-errors")
    assert one(alarms, "shop", "CompositeAlarm")["StateValue"] == "ALARM"
    # The history, too, has metric alarms only, unless the request names composite alarms.
    entries = alarms.describe_alarm_history(AlarmName="shop", HistoryItemType="StateUpdate")["AlarmHistoryItems"]
    assert entries == [] and history(alarms, "shop", kind="CompositeAlarm")[-1][0] == "Alarm updated from OK to ALARM"


def test_a_flap_stays_in_the_history_and_moves_the_time_of_the_state(alarms):
    alarms.put_metric_alarm(AlarmName="shop-errors", **SETTINGS)
    since = datetime.now(UTC)
    before = one(alarms, "shop-errors")
    assert before["StateValue"] == "OK" and before["StateTransitionedTimestamp"] < since
    ring(alarms, "shop-errors")
    ring(alarms, "shop-errors", "OK")
    until = datetime.now(UTC)
    after = one(alarms, "shop-errors")
    # The times are exact enough for a flap that begins and ends within one second.
    assert after["StateValue"] == "OK" and since < after["StateTransitionedTimestamp"] < until
    assert after["AlarmConfigurationUpdatedTimestamp"] == before["AlarmConfigurationUpdatedTimestamp"] < since
    flap = history(alarms, "shop-errors", StartDate=since, EndDate=until)
    assert [summary for summary, _ in flap] == ["Alarm updated from OK to ALARM", "Alarm updated from ALARM to OK"]
    assert since < flap[0][1] < flap[1][1] < until
    assert history(alarms, "shop-errors", StartDate=until + timedelta(milliseconds=1)) == []
    first = alarms.describe_alarm_history(AlarmName="shop-errors", HistoryItemType="StateUpdate", MaxRecords=1)
    (newest,) = first["AlarmHistoryItems"]
    assert json.loads(newest["HistoryData"])["newState"]["stateValue"] == "OK" and first["NextToken"]


def test_an_edited_alarm_keeps_its_state_and_a_deleted_one_its_history(alarms):
    alarms.put_metric_alarm(AlarmName="shop-errors", **SETTINGS)
    ring(alarms, "shop-errors")
    before = one(alarms, "shop-errors")
    alarms.put_metric_alarm(AlarmName="shop-errors", **SETTINGS | {"Threshold": 5.0, "TreatMissingData": "ignore"})
    after = one(alarms, "shop-errors")
    assert after["AlarmConfigurationUpdatedTimestamp"] > before["AlarmConfigurationUpdatedTimestamp"]
    for unchanged in ("StateValue", "StateTransitionedTimestamp", "StateUpdatedTimestamp"):
        assert after[unchanged] == before[unchanged]
    alarms.delete_alarms(AlarmNames=["shop-errors"])
    assert alarms.describe_alarms(AlarmNames=["shop-errors"])["MetricAlarms"] == []
    configured = [summary for summary, _ in history(alarms, "shop-errors", "ConfigurationUpdate")][-3:]
    assert configured == [f'Alarm "shop-errors" {what}' for what in ("created", "updated", "deleted")]


@pytest.mark.parametrize(
    ("treat", "state"),
    [("notBreaching", "OK"), ("breaching", "ALARM"), ("missing", "INSUFFICIENT_DATA"), ("ignore", "INSUFFICIENT_DATA")],
)
def test_a_new_alarm_without_data_has_the_state_that_its_setting_says(alarms, treat, state):
    alarms.put_metric_alarm(AlarmName="shop-errors", **SETTINGS | {"MetricName": treat, "TreatMissingData": treat})
    assert one(alarms, "shop-errors")["StateValue"] == state


def test_an_alarm_reads_only_the_metric_with_its_dimensions(alarms):
    alarms.put_metric_alarm(AlarmName="shop-errors", **SETTINGS | {"MetricName": "Failures"})

    def put(box, value):
        metric = {"MetricName": "Failures", "Dimensions": [{"Name": "Box", "Value": box}], "Value": value}
        alarms.put_metric_data(Namespace="Shop", MetricData=[metric])
        return one(alarms, "shop-errors")["StateValue"]

    assert [put("two", 1), put("one", 0), put("one", 1)] == ["OK", "OK", "ALARM"]


def test_an_update_of_a_stack_edits_only_the_alarms_that_it_changes(cloud, alarms):
    def template(threshold):
        made = {"AlarmName": "templated-errors", **SETTINGS, "Threshold": threshold}
        same = made | {"AlarmName": "templated-same", "Threshold": 0}
        resources = {
            name: {"Type": "AWS::CloudWatch::Alarm", "Properties": one}
            for name, one in (("Errors", made), ("Same", same))
        }
        return json.dumps({"Resources": resources})

    def configured(name):
        return one(alarms, name)["AlarmConfigurationUpdatedTimestamp"]

    deploy(cloud, TEST, "alarms", template(0))
    before = configured("templated-errors"), configured("templated-same")
    deploy(cloud, TEST, "alarms", template(5))
    assert configured("templated-errors") > before[0] and configured("templated-same") == before[1]


def test_reading_alarms_needs_the_permission(cloud, alarms):
    alarms.put_metric_alarm(AlarmName="shop-errors", **SETTINGS)
    reader = cloud.client("cloudwatch", TEST, cloud.user(TEST, "alarm-reader", [allow("cloudwatch:DescribeAlarms")]))
    assert one(reader, "shop-errors")["AlarmName"] == "shop-errors"
    with pytest.raises(ClientError) as caught:
        history(reader, "shop-errors")
    assert code(caught) == "AccessDeniedException"


def answer(cloud, user, operation, **request):
    """Calls CloudWatch in CBOR, as the AWS SDK for Rust does, and returns the status and the answer."""
    url = f"{cloud.url}/service/GraniteServiceVersion20100801/operation/{operation}"
    headers = {"Content-Type": "application/cbor", "Accept": "application/cbor", "smithy-protocol": "rpc-v2-cbor"}
    body = cbor2.dumps(request)
    signed = AWSRequest("POST", url, headers, body)
    keys = Credentials(user["aws_access_key_id"], user["aws_secret_access_key"])
    SigV4Auth(keys, "monitoring", REGION).add_auth(signed)
    sent = urllib.request.Request(url, body, dict(signed.headers.items()))
    try:
        with urllib.request.urlopen(sent) as received:
            return received.status, cbor2.loads(received.read())
    except urllib.error.HTTPError as error:
        return error.code, cbor2.loads(error.read())


def test_the_protocol_of_the_sdk_for_rust_has_exact_times_and_permissions(cloud, alarms):
    reads = ["cloudwatch:DescribeAlarms", "cloudwatch:DescribeAlarmHistory"]
    reader, stranger = (cloud.user(TEST, f"cbor-{name}", [allow(may)]) for name, may in (("r", reads), ("s", "sns:*")))
    since = datetime.now(UTC)
    alarms.put_metric_alarm(AlarmName="cbor-errors", **SETTINGS)
    ring(alarms, "cbor-errors")
    ring(alarms, "cbor-errors", "OK")
    types = ["MetricAlarm", "CompositeAlarm"]
    status, found = answer(cloud, reader, "DescribeAlarms", AlarmNamePrefix="cbor-", AlarmTypes=types)
    (alarm,) = found["MetricAlarms"]
    assert (status, alarm["StateValue"], found["CompositeAlarms"]) == (200, "OK", [])
    for time in ("StateTransitionedTimestamp", "StateUpdatedTimestamp", "AlarmConfigurationUpdatedTimestamp"):
        assert since < alarm[time] < datetime.now(UTC)
    window = {"StartDate": cbor2.CBORTag(1, since.timestamp()), "EndDate": cbor2.CBORTag(1, since.timestamp() + 60)}
    wanted = {"AlarmName": "cbor-errors", "HistoryItemType": "StateUpdate", "AlarmTypes": types}
    status, found = answer(cloud, reader, "DescribeAlarmHistory", **wanted, **window)
    assert status == 200
    times = [item["Timestamp"] for item in found["AlarmHistoryItems"] if "ALARM" in item["HistorySummary"]]
    # The newest comes first.
    assert len(times) == 2 and since < times[1] < times[0] == alarm["StateTransitionedTimestamp"]
    for operation in ("DescribeAlarms", "DescribeAlarmHistory"):
        status, refusal = answer(cloud, stranger, operation)
        assert (status, refusal["__type"].rpartition("#")[2]) == (403, "AccessDeniedException"), refusal
