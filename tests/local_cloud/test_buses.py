"""The policy of a bus decides whether the bus accepts events from another account."""

import json

from tests.local_cloud.accounts import OUTSIDE, PRODUCTION, REPOSITORY, TEST, allow
from tools.layout import REGION, WORKLOADS

BUS = f"arn:aws:events:{REGION}:{PRODUCTION}:event-bus/sekisho"
RELAY = f"arn:aws:iam::{REPOSITORY}:role/relay"


def template(policy: dict) -> str:
    return json.dumps(
        {"Resources": {"Bus": {"Type": "AWS::Events::EventBus", "Properties": {"Name": "sekisho", "Policy": policy}}}}
    )


def policy(source: str) -> dict:
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "Relay",
                "Effect": "Allow",
                "Principal": {"AWS": REPOSITORY},
                "Action": "events:PutEvents",
                "Resource": BUS,
                "Condition": {
                    "ArnEquals": {"aws:PrincipalArn": RELAY},
                    "ForAllValues:StringEquals": {"events:source": source, "events:detail-type": "Source Change"},
                    "Null": {"events:source": "false", "events:detail-type": "false"},
                },
            }
        ],
    }


def deploy(cloud, account: str, name: str, body: str, **more) -> None:
    cloudformation = cloud.client("cloudformation", account)
    try:
        cloudformation.create_stack(StackName=name, TemplateBody=body, **more)
        cloudformation.get_waiter("stack_create_complete").wait(StackName=name, WaiterConfig={"Delay": 1})
    except cloudformation.exceptions.AlreadyExistsException:
        cloudformation.update_stack(StackName=name, TemplateBody=body, **more)
        cloudformation.get_waiter("stack_update_complete").wait(StackName=name, WaiterConfig={"Delay": 1})


def entry(**changes) -> dict:
    return {
        "Source": "sekisho.relay",
        "DetailType": "Source Change",
        "Detail": '{"version": 1}',
        "EventBusName": BUS,
    } | changes


def test_only_a_role_that_the_policy_names_reaches_another_accounts_bus(cloud):
    deploy(cloud, PRODUCTION, "bus", template(policy("sekisho.relay")))
    url, queue = cloud.queue(PRODUCTION, "relayed")
    there = cloud.client("events", PRODUCTION)
    there.put_rule(
        Name="relayed",
        EventBusName="sekisho",
        EventPattern=json.dumps({"source": ["sekisho.relay"], "account": [REPOSITORY]}),
    )
    there.put_targets(Rule="relayed", EventBusName="sekisho", Targets=[{"Id": "queue", "Arn": queue}])
    trusted = {"AWS": f"arn:aws:iam::{REPOSITORY}:root"}
    may_put = [
        allow(
            "events:PutEvents",
            BUS + "*",
            Condition={
                "ForAllValues:StringEquals": {"events:source": "sekisho.relay"},
                "Null": {"events:source": "false"},
            },
        )
    ]
    cloud.role(REPOSITORY, "relay", trusted, may_put)
    cloud.role(REPOSITORY, "stranger", trusted, may_put)
    relay = cloud.client("events", credentials=cloud.session(RELAY))
    stranger = cloud.client("events", credentials=cloud.session(RELAY.replace("relay", "stranger")))

    put = relay.put_events(Entries=[entry(), entry(DetailType="Other"), entry(EventBusName=BUS + "-none")])
    assert put["FailedEntryCount"] == 2
    assert [one.get("ErrorCode") for one in put["Entries"]] == [None, "AccessDeniedException", "AccessDeniedException"]
    (event,) = cloud.messages(PRODUCTION, url)
    assert event["account"] == REPOSITORY and event["id"] == put["Entries"][0]["EventId"]
    assert event["detail"] == {"version": 1} and event["source"] == "sekisho.relay"

    denied = stranger.put_events(Entries=[entry()])["Entries"][0]
    assert denied["ErrorCode"] == "AccessDeniedException" and "stranger" in denied["ErrorMessage"]
    aws = cloud.client("events").put_events(Entries=[entry(Source="aws.codecommit")])["Entries"][0]
    assert aws["ErrorCode"] == "NotAuthorizedForSourceException"

    # An update of the stack also updates the bus's policy.
    deploy(cloud, PRODUCTION, "bus", template(policy("somebody.else")))
    assert relay.put_events(Entries=[entry()])["FailedEntryCount"] == 1
    assert cloud.messages(PRODUCTION, url, seconds=0.5) == []


def test_an_organizational_unit_can_be_the_principal_of_a_bus(cloud):
    bus = BUS.replace(PRODUCTION, REPOSITORY).replace("sekisho", "of-the-unit")
    statement = {
        "Sid": "Unit",
        "Effect": "Allow",
        "Principal": "*",
        "Action": "events:PutEvents",
        "Resource": bus,
        "Condition": {"ForAnyValue:StringLike": {"aws:PrincipalOrgPaths": f"{WORKLOADS}*"}},
    }
    body = template({"Version": "2012-10-17", "Statement": [statement]}).replace('"sekisho"', '"of-the-unit"')
    deploy(cloud, REPOSITORY, "bus-of-the-unit", body)
    for account, code in ((TEST, None), (PRODUCTION, None), (OUTSIDE, "AccessDeniedException")):
        put = cloud.client("events", account).put_events(Entries=[entry(EventBusName=bus)])
        assert put["Entries"][0].get("ErrorCode") == code, account


REPORTS = f"arn:aws:events:{REGION}:{REPOSITORY}:event-bus/reports"


def test_a_bus_in_the_repository_account_admits_reports_of_pipeline_accounts(cloud):
    """As in the template, the principal is an account, and the role's ARN has a wildcard in place of the account."""
    statement = {
        "Effect": "Allow",
        "Principal": {"AWS": [f"arn:aws:iam::{TEST}:root"]},
        "Action": "events:PutEvents",
        "Resource": REPORTS,
        "Condition": {
            "ArnLike": {"aws:PrincipalArn": "arn:aws:iam::*:role/sekisho-pipeline-starter-*"},
            "ForAllValues:StringEquals": {"events:source": "sekisho.starter", "events:detail-type": "Order Report"},
            "Null": {"events:source": "false", "events:detail-type": "false"},
        },
    }
    bus = {"Name": "reports", "Policy": {"Version": "2012-10-17", "Statement": [statement]}}
    body = json.dumps({"Resources": {"Bus": {"Type": "AWS::Events::EventBus", "Properties": bus}}})
    deploy(cloud, REPOSITORY, "reports", body)
    url, queue = cloud.queue(REPOSITORY, "reports")
    here = cloud.client("events")
    pattern = {"source": ["sekisho.starter"], "detail-type": ["Order Report"]}
    here.put_rule(Name="reports", EventBusName="reports", EventPattern=json.dumps(pattern))
    here.put_targets(Rule="reports", EventBusName="reports", Targets=[{"Id": "queue", "Arn": queue}])

    def put(account, role, **changes):
        arn = f"arn:aws:iam::{account}:role/{role}"
        report = {"Source": "sekisho.starter", "DetailType": "Order Report", "EventBusName": REPORTS}
        (result,) = cloud.client("events", credentials=cloud.session(arn)).put_events(
            Entries=[entry(**report | changes)]
        )["Entries"]
        return result.get("ErrorCode")

    for account, role in (
        (TEST, "sekisho-pipeline-starter-here"),
        (TEST, "sekisho-pipeline-here"),
        (PRODUCTION, "sekisho-pipeline-starter-here"),
        (PRODUCTION, "sekisho-pipeline-here"),
    ):
        cloud.role(account, role, {"AWS": f"arn:aws:iam::{account}:root"}, [allow("events:PutEvents")])
    starter, denied = "sekisho-pipeline-starter-here", "AccessDeniedException"
    assert put(TEST, starter) is None
    assert put(TEST, starter, Source="sekisho.relay") == denied
    assert put(TEST, starter, DetailType="Source Change") == denied
    assert put(TEST, "sekisho-pipeline-here") == denied
    assert put(PRODUCTION, starter) == denied
    # PutPermission replaces the whole policy, too.
    policy = {"Version": "2012-10-17", "Statement": [statement | {"Principal": {"AWS": PRODUCTION}}]}
    here.put_permission(EventBusName="reports", Policy=json.dumps(policy))
    assert (put(TEST, starter), put(PRODUCTION, "sekisho-pipeline-here")) == (denied, denied)
    (event,) = cloud.messages(REPOSITORY, url)
    assert (event["account"], event["region"], event["source"]) == (TEST, REGION, "sekisho.starter")
