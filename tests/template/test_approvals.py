"""Approvals: the rule that invokes pipeline-starter for the notice, and the text of the managed pipeline's approval."""

import json
import re

import pytest

from tests.template import deployed

RESOURCES = deployed.source()["Resources"]
PARAMETERS = deployed.source()["Parameters"]
# CodePipeline's limit for a value in the configuration of an action, in characters.
LONGEST_VALUE = 1000
WAITS = json.loads((deployed.ROOT / "events" / "pipeline-starter" / "approval-waits.json").read_text())


@pytest.mark.parametrize(
    ("detail", "notified"),
    [
        ({}, True),
        ({"state": "SUCCEEDED"}, False),
        ({"type": {"owner": "AWS", "category": "Deploy", "provider": "CloudFormation", "version": "1"}}, False),
    ],
)
def test_the_rule_matches_approvals_that_wait(cloud_of_all, detail, notified):
    pattern = RESOURCES["ApprovalWaits"]["Properties"]["EventPattern"]
    event = WAITS | {"detail": WAITS["detail"] | detail}
    answer = cloud_of_all.client("333333333333", "events").test_event_pattern(
        EventPattern=json.dumps(pattern), Event=json.dumps(event)
    )
    assert answer["Result"] is notified


def test_pipeline_starter_gets_every_approval_of_the_account():
    """EventBridge can't publish to a topic whose policy has conditions, so pipeline-starter does."""
    rule = RESOURCES["ApprovalWaits"]
    (target,) = rule["Properties"]["Targets"]
    assert target["Arn"] == {"Fn::GetAtt": ["PipelineStarter", "Arn"]}
    assert target["DeadLetterConfig"] == {"Arn": {"Fn::GetAtt": ["PipelineStarterDeadLetters", "Arn"]}}
    assert rule["Condition"] == "Pipelines"


def test_eventbridge_publishes_to_no_topic():
    expanded = deployed.expanded()["Resources"]
    topics = {name for name, one in expanded.items() if one["Type"] == "AWS::SNS::Topic"}
    assert topics == {"Notices"}
    targets = [
        target
        for one in expanded.values()
        if one["Type"] == "AWS::Events::Rule"
        for target in one["Properties"]["Targets"]
    ]
    assert targets and not [one for one in targets if "Ref" in one["Arn"]]


def chosen(declaration):
    """Returns what a condition adds to a list, or the declaration itself if it depends on no condition."""
    return declaration["Fn::If"][1] if "Fn::If" in declaration else declaration


def approval():
    (action,) = [
        one
        for stage in RESOURCES["Pipeline"]["Properties"]["Stages"]
        for one in map(chosen, chosen(stage)["Actions"])
        if one["Name"] == "Approval"
    ]
    return action["Configuration"]


def test_the_text_of_the_approval_is_never_too_long():
    """The text may have the longest values that the parameters' patterns allow, but no value without a limit."""
    longest = {"RepositoryName": 100, "BranchName": 256, "AWS::AccountId": 12, "AWS::Region": 14, "Source.CommitId": 40}
    longest |= {"Pipeline": 50, "ImageRepositoryName": 256, "Image.ImageDigest": len("sha256:") + 64}
    longest |= {"DeployBucketName": 63}

    def length(value):
        if isinstance(value, str):
            return len(value)
        if "Fn::If" in value:
            return max(map(length, value["Fn::If"][1:]))
        text = value["Fn::Sub"]
        text, parts = text if isinstance(text, list) else (text, {})
        values = {name: length(one) for name, one in parts.items() if name not in longest} | longest
        names = re.findall(r"[$#]\{([^}]*)\}", text)
        assert set(names) <= set(values), "a part of the text has no known limit"
        return len(re.sub(r"[$#]\{[^}]*\}", "", text)) + sum(values[name] for name in names)

    assert set(approval()) == {"CustomData", "ExternalEntityLink"}
    for value in approval().values():
        assert 0 < length(value) <= LONGEST_VALUE


def test_the_approval_sends_no_second_message():
    assert "NotificationArn" not in approval()
