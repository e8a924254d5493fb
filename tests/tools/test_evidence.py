"""The reading checks of `make smoke` judge traces that AWS leaves. The local cloud leaves few: the tests use fakes."""

import json
from datetime import UTC, datetime
from unittest.mock import MagicMock

import pytest
from botocore.exceptions import ClientError

from tools.operations import evidence
from tools.operations.facts import Place, State

HOLDS, FAILS, HIDDEN = State.HOLDS, State.FAILS, State.HIDDEN
STACK = "arn:aws:cloudformation:ap-northeast-1:222222222222:stack/sekisho/1"


class Account(Place):
    """A place with given clients, and with metrics in a dictionary whose keys contain the metric and its dimensions."""

    def __init__(self, parameters=(), metrics=(), decisions=(), resources=(), **clients):
        self.id, self.region, self.left = "222222222222", "ap-northeast-1", []
        self.target = MagicMock(parameters=dict(parameters), stack="sekisho")
        self.metrics, self.made, self.found, self.clients = dict(metrics), decisions, resources, clients

    def client(self, service):
        return self.clients[service]

    def total(self, namespace, metric, **dimensions):
        assert namespace.startswith("AWS/")
        return self.metrics.get((metric, *dimensions.values()), 0.0)

    def decisions(self, function):
        assert function in ("event-relay", "pipeline-starter", "artifact-checker")
        return iter(self.made)

    def resources(self, kind):
        assert kind.startswith("AWS::")
        return list(self.found)


def paged(operation, *pages):
    """Returns a client whose paginator of the operation has these pages."""
    client = MagicMock()
    client.get_paginator.side_effect = lambda name: (
        MagicMock(paginate=MagicMock(return_value=list(pages))) if name == operation else pytest.fail(name)
    )
    return client


def event(resource, status, reason=None):
    """Returns an event of the stack; `resource` is a logical id, or None for the stack itself."""
    return {
        "StackId": STACK,
        "LogicalResourceId": resource or "sekisho",
        "PhysicalResourceId": "queue" if resource else STACK,
        "ResourceStatus": status,
        "Timestamp": datetime.now(UTC),
    } | ({"ResourceStatusReason": reason} if reason else {})


BEGAN, DONE = event(None, "UPDATE_IN_PROGRESS"), event(None, "UPDATE_COMPLETE")
DENIED = event("Queue", "CREATE_FAILED", "User is not authorized to perform: sqs:CreateQueue")


@pytest.mark.parametrize(
    ("events", "state"),
    [
        ([DONE, BEGAN], HOLDS),
        # The check judges only the last operation. AWS lists the newest event first.
        ([DONE, BEGAN, DENIED, BEGAN], HOLDS),
        ([event(None, "ROLLBACK_COMPLETE"), DENIED, event(None, "CREATE_IN_PROGRESS"), DONE, BEGAN], FAILS),
        ([event(None, "UPDATE_ROLLBACK_COMPLETE"), event("Queue", "CREATE_FAILED", "exists"), BEGAN], HIDDEN),
        ([BEGAN], HIDDEN),
    ],
)
def test_a_permission_that_cloudformation_lacks(events, state):
    place = Account(cloudformation=paged("describe_stack_events", {"StackEvents": events}))
    assert evidence.cloudformation_may_do_everything(place).state is state


@pytest.mark.parametrize(
    ("metrics", "state"),
    [
        ({}, HIDDEN),
        ({("Invocations", "sekisho-sweep"): 3.0}, HOLDS),
        ({("Invocations", "sekisho-sweep"): 3.0, ("FailedInvocations", "sekisho-sweep"): 1.0}, FAILS),
        # If a rule is not on the default bus, its dimensions are the rule and the bus.
        ({("FailedInvocations", "sekisho-source-change", "sekisho"): 1.0}, FAILS),
        ({("FailedInvocations", "sekisho-source-change"): 1.0}, HIDDEN),
    ],
)
def test_a_rule_that_invokes_nothing(metrics, state):
    place = Account(metrics=metrics, resources=["sekisho-sweep", "sekisho|sekisho-source-change"])
    assert evidence.rules_invoke_their_targets(place).state is state


@pytest.mark.parametrize(
    ("parameters", "metrics", "state"),
    [
        ({}, {}, HIDDEN),
        ({"SlackChannelId": "C1"}, {("NumberOfNotificationsFailed", "sekisho-notices"): 2.0}, FAILS),
        # Chatbot may drop a message that SNS has delivered, so the metric does not prove that the message arrived.
        ({"SlackChannelId": "C1"}, {}, HIDDEN),
    ],
)
def test_a_message_that_does_not_reach_the_channel(parameters, metrics, state):
    topic = "arn:aws:sns:ap-northeast-1:222222222222:sekisho-notices"
    place = Account(parameters, metrics, resources=[topic])
    assert evidence.channel_gets_messages(place).state is state


@pytest.mark.parametrize(
    ("parameters", "waiting", "decisions", "state"),
    [
        ({}, "0", [], HIDDEN),
        ({"PipelineOrgPath": "o-1/r-1/"}, "0", [], HIDDEN),
        ({"PipelineOrgPath": "o-1/r-1/"}, "0", [{"outcome": "relayed"}], HOLDS),
        ({"PipelineOrgPath": "o-1/r-1/"}, "2", [{"outcome": "relayed"}], FAILS),
    ],
)
def test_an_organizational_unit(parameters, waiting, decisions, state):
    sqs = MagicMock()
    sqs.get_queue_attributes.return_value = {"Attributes": {"ApproximateNumberOfMessages": waiting}}
    place = Account(parameters, decisions=decisions, sqs=sqs)
    assert evidence.organizational_unit_is_enough(place).state is state


@pytest.mark.parametrize(
    ("sessions", "state"),
    [
        ([], HIDDEN),
        ([("ci", "somebody")], HIDDEN),
        ([("sekisho-chat-ap-northeast-1", "slack"), ("sekisho-chat-ap-northeast-1", "slack")], HOLDS),
        ([("sekisho-chat-ap-northeast-1", "hana"), ("sekisho-chat-ap-northeast-1", "taro")], FAILS),
    ],
)
def test_the_names_of_chatbots_sessions(sessions, state):
    events = [
        {
            "CloudTrailEvent": json.dumps(
                {"requestParameters": {"roleArn": f"arn:aws:iam::1:role/{role}", "roleSessionName": name}}
            )
        }
        for role, name in sessions
    ]
    # CloudTrail's event of a refused call has no parameters.
    events.append({"CloudTrailEvent": json.dumps({"requestParameters": None})})
    place = Account(cloudtrail=paged("lookup_events", {"Events": events}))
    assert evidence.chat_sessions_name_nobody(place).state is state


ABROAD = "111111111111.dkr.ecr.ap-northeast-1.amazonaws.com/shop@sha256:1"


@pytest.mark.parametrize(
    ("functions", "state"),
    [
        ({"web": (ABROAD, None)}, HOLDS),
        ({"web": (ABROAD, "Idle"), "api": (ABROAD, "ImageAccessDenied")}, FAILS),
        # In its own account, Lambda is admitted by the function's ARN.
        ({"web": (ABROAD.replace("1" * 12, "2" * 12), None)}, HIDDEN),
        ({"web": (None, None)}, HIDDEN),
        ({}, HIDDEN),
    ],
)
def test_lambda_pulls_from_another_account(functions, state):
    listed = [
        {"FunctionName": name, "PackageType": "Image" if image else "Zip"} for name, (image, _) in functions.items()
    ]
    client = paged("list_functions", {"Functions": listed})
    client.get_function.side_effect = lambda FunctionName: {  # noqa: N803 (boto3's name)
        "Code": {"ImageUri": functions[FunctionName][0]},
        "Configuration": {"StateReasonCode": functions[FunctionName][1]} if functions[FunctionName][1] else {},
    }
    place = Account(**{"lambda": client})
    assert evidence.lambda_pulls_from_another_account(place).state is state


USER = "arn:aws:iam::222222222222:user/prd-user"
ROLE = "arn:aws:sts::222222222222:assumed-role/ops/hana"


@pytest.mark.parametrize(
    ("owners", "ends", "state"),
    [
        ([USER, ROLE], [("sekisho-temp-access-ap-northeast-1", None)], HOLDS),
        ([USER, "hana"], [("sekisho-temp-access-ap-northeast-1", None)], FAILS),
        ([USER, None], [], FAILS),
        ([USER], [("sekisho-temp-access-ap-northeast-1", "AccessDenied")], FAILS),
        ([USER], [("administrator", None)], HIDDEN),
        ([], [("sekisho-temp-access-ap-northeast-1", None)], HIDDEN),
    ],
)
def test_temp_access_ends_the_sessions_that_it_recognizes(owners, ends, state):
    events = [
        {
            "CloudTrailEvent": json.dumps(
                {"userIdentity": {"arn": f"arn:aws:sts::222222222222:assumed-role/{role}/x"}}
                | ({"errorCode": error} if error else {})
            )
        }
        for role, error in ends
    ]
    sessions = [{"SessionId": "one"} | ({"Owner": owner} if owner else {}) for owner in owners]
    place = Account(
        ssm=paged("describe_sessions", {"Sessions": sessions}), cloudtrail=paged("lookup_events", {"Events": events})
    )
    assert evidence.sessions_are_ended(place).state is state


@pytest.mark.parametrize(
    ("error", "decisions", "state"),
    [
        ("AccessDenied: with an explicit deny in a resource-based policy", [{"outcome": "repaired"}], HOLDS),
        ("AccessDenied: with an explicit deny in a resource-based policy", [{"outcome": "compliant"}], HIDDEN),
        ("NoSuchKey: no such key", [{"outcome": "repaired"}], FAILS),
    ],
)
def test_only_the_checker_changes_an_encryption(error, decisions, state):
    code, _, message = error.partition(": ")
    refused = ClientError({"Error": {"Code": code, "Message": message}}, "UpdateObjectEncryption")
    place = Account(decisions=decisions, s3=MagicMock(update_object_encryption=MagicMock(side_effect=refused)))
    place.outputs = {"ArtifactBucketName": "bucket", "ArtifactKeyArn": "key"}
    assert evidence.only_the_checker_repairs(place).state is state


@pytest.mark.parametrize(
    ("decisions", "state"),
    [
        ([{"outcome": "repaired", "reason": "r", "code": "ABCD2345"}], HOLDS),
        (
            [{"outcome": "repaired", "reason": "r", "code": "A"}, {"outcome": "unknown", "reason": "r", "code": "B"}],
            FAILS,
        ),
        ([{"outcome": "reported", "reason": "waits", "code": "ABCD2345"}], HIDDEN),
        ([{"outcome": "repaired", "reason": "by itself"}], HIDDEN),
    ],
)
def test_the_end_of_a_job_shows_what_s3_lets_it_do(decisions, state):
    assert evidence.jobs_repair_artifacts(Account(decisions=decisions)).state is state


def test_without_a_permission_of_its_own_a_refusal_shows_nothing():
    refused = ClientError({"Error": {"Code": "AccessDenied", "Message": "not authorized"}}, "UpdateObjectEncryption")
    place = Account(s3=MagicMock(update_object_encryption=MagicMock(side_effect=refused)))
    place.outputs = {"ArtifactBucketName": "bucket", "ArtifactKeyArn": "key"}
    with pytest.raises(ClientError):
        evidence.only_the_checker_repairs(place)
    assert evidence.because_of(refused).state is HIDDEN


@pytest.mark.parametrize(
    ("status", "state"), [("CREATE_COMPLETE", HOLDS), ("ROLLBACK_COMPLETE", FAILS), (None, HIDDEN)]
)
def test_the_bucket_of_sam(status, state):
    missing = ClientError({"Error": {"Code": "ValidationError", "Message": "does not exist"}}, "DescribeStacks")
    found = [{"Stacks": [{"StackStatus": status}]}] if status else missing
    place = Account(cloudformation=MagicMock(describe_stacks=MagicMock(side_effect=found)))
    assert evidence.sam_bucket_was_created(place).state is state


def test_only_the_channel_shows_what_slack_displays():
    assert evidence.buttons_appear(Account()).state is HIDDEN
    assert evidence.card_shows_graph(Account({"SlackChannelId": "C1"})).state is HIDDEN
