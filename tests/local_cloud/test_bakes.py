"""A function with the permissions of pipeline-starter hears of an alarm, reads it, and stops an execution."""

import json
import sys
import time

from tests.local_cloud.accounts import PRODUCTION
from tests.local_cloud.delivery import Delivery
from tests.local_cloud.test_alarms import SETTINGS, ring
from tests.local_cloud.test_cloud import make
from tests.template import deployed
from tools.layout import REGION

# The function does what pipeline-starter does when an alarm rings during a bake, and writes down what AWS answered.
FUNCTION = f"""#!{sys.executable}
import boto3, json, os, pathlib, urllib.request
api = "http://" + os.environ["AWS_LAMBDA_RUNTIME_API"] + "/2018-06-01/runtime/invocation/"
cloudwatch, codepipeline = boto3.client("cloudwatch"), boto3.client("codepipeline")
while True:
    with urllib.request.urlopen(api + "next") as event:
        request, body = event.headers["Lambda-Runtime-Aws-Request-Id"], json.load(event)
    name, found = body["detail"]["alarmName"], {{"source": body["source"], "state": body["detail"]["state"]["value"]}}
    try:
        kinds = ["MetricAlarm", "CompositeAlarm"]
        described = cloudwatch.describe_alarms(AlarmNamePrefix="baked-", AlarmTypes=kinds)
        found["alarms"] = {{one["AlarmName"]: one["StateValue"] for kind in kinds for one in described[kind + "s"]}}
        history = cloudwatch.describe_alarm_history(AlarmName=name, HistoryItemType="StateUpdate", AlarmTypes=kinds)
        found["history"] = history["AlarmHistoryItems"][0]["HistorySummary"]
        stages = codepipeline.get_pipeline(name="baked")["pipeline"]["stages"]
        kind = lambda action: action["actionTypeId"]["category"]
        found["categories"] = [kind(action) for stage in stages for action in stage["actions"]]
        (execution,) = codepipeline.list_pipeline_executions(pipelineName="baked")["pipelineExecutionSummaries"]
        which = {{"pipelineExecutionId": execution["pipelineExecutionId"]}}
        actions = codepipeline.list_action_executions(pipelineName="baked", filter=which)["actionExecutionDetails"]
        found["waits"] = [kind(one["input"]) for one in actions if one["status"] == "InProgress"]
        codepipeline.stop_pipeline_execution(pipelineName="baked", **which, abandon=True, reason="a rollback follows")
        codepipeline.delete_pipeline(name="baked")
    except Exception as error:
        found["error"] = str(error)
    pathlib.Path("RESULT.part").write_text(json.dumps(found))
    os.replace("RESULT.part", "RESULT")
    urllib.request.urlopen(api + request + "/response", b"null")
"""


def statements(*sids):
    """Returns statements of pipeline-starter's role from the template, for the account PRODUCTION."""
    (policy,) = deployed.source()["Resources"]["PipelineStarterRole"]["Properties"]["Policies"]
    found = [one for one in policy["PolicyDocument"]["Statement"] if one["Sid"] in sids]
    assert len(found) == len(sids)
    text = json.dumps(found).replace("${AWS::Region}", REGION).replace("${AWS::AccountId}", PRODUCTION)
    resolved = json.loads(text)
    for one in resolved:
        if isinstance(one["Resource"], dict):
            one["Resource"] = one["Resource"]["Fn::Sub"]
    return resolved


def test_the_permissions_of_the_starter_suffice_for_a_bake_and_a_stop(cloud, tmp_path):
    repository = cloud.repository("baked", tmp_path)
    commit = repository.commit({"README.md": "read"}, "First")
    repository.push("main")
    delivery = Delivery(cloud, PRODUCTION, "baked")
    delivery.client.create_pipeline(pipeline=delivery.structure(delivery.approval()))
    execution = delivery.start(commit)
    while "Approval" not in delivery.actions(execution):
        time.sleep(0.05)

    result = tmp_path / "result"
    make(cloud, tmp_path, "baked", FUNCTION.replace("RESULT", str(result)), statements("Start", "ReadAlarms"))
    rule = deployed.source()["Resources"]["PipelineStarter"]["Properties"]["Events"]["AlarmState"]["Properties"]
    events = cloud.client("events", PRODUCTION)
    events.put_rule(Name="baked", EventPattern=json.dumps(rule["Pattern"]))
    function = f"arn:aws:lambda:{REGION}:{PRODUCTION}:function:baked"
    events.put_targets(Rule="baked", Targets=[{"Id": "function", "Arn": function}])
    alarms = cloud.client("cloudwatch", PRODUCTION)
    alarms.put_metric_alarm(AlarmName="baked-errors", **SETTINGS)
    alarms.put_composite_alarm(AlarmName="baked-any", AlarmRule='ALARM("baked-errors") AND FALSE')
    try:
        ring(alarms, "baked-errors")
        end = time.monotonic() + 20
        while not result.exists():
            assert time.monotonic() < end, "the rule invoked no function"
            time.sleep(0.05)
    finally:
        for name in ("baked-any", "baked-errors"):
            alarms.delete_alarms(AlarmNames=[name])
        events.remove_targets(Rule="baked", Ids=["function"])
        events.delete_rule(Name="baked")
    found = json.loads(result.read_text())
    assert "codepipeline:DeletePipeline" in found.pop("error")
    assert found == {
        "source": "aws.cloudwatch",
        "state": "ALARM",
        "alarms": {"baked-errors": "ALARM", "baked-any": "OK"},
        "history": "Alarm updated from OK to ALARM",
        "categories": ["Source", "Approval"],
        "waits": ["Approval"],
    }
    assert delivery.ended(execution, 5)["status"] == "Stopped"
