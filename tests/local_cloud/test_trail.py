"""CloudTrail's LookupEvents: who did what, in pages, and not too often."""

import datetime
import json
import time
import uuid

import pytest
from botocore.exceptions import ClientError

from tests.local_cloud.accounts import OUTSIDE, PRODUCTION, TEST, allow
from tests.local_cloud.doors import refusal
from tools.layout import REGION


def lookup(trail, **request) -> dict:
    """Calls LookupEvents no more often than CloudTrail allows."""
    time.sleep(0.6)
    answer: dict = trail.lookup_events(**request)
    return answer


def by(key: str, value: str) -> dict:
    return {"LookupAttributes": [{"AttributeKey": key, "AttributeValue": value}]}


def test_events_name_the_role_and_its_session(cloud):
    name, begin = f"trail-{uuid.uuid4().hex[:8]}", datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=2)
    role = cloud.role(TEST, name, {"AWS": f"arn:aws:iam::{TEST}:root"}, [allow("ssm:*")])
    given = cloud.client("sts", TEST).assume_role(RoleArn=role, RoleSessionName=name)["Credentials"]
    keys = {
        "aws_access_key_id": given["AccessKeyId"],
        "aws_secret_access_key": given["SecretAccessKey"],
        "aws_session_token": given["SessionToken"],
    }
    person, trail = cloud.client("ssm", credentials=keys), cloud.client("cloudtrail", TEST)
    person.put_parameter(Name=name, Value="1", Type="String")
    person.get_parameter(Name=name)
    assert refusal(cloud.client("sns", credentials=keys).list_topics) == "AuthorizationError"
    assert refusal(cloud.client("iam", credentials=keys).list_users) == "AccessDenied"
    found = lookup(trail, **by("Username", name), StartTime=begin)["Events"]
    assert [(one["EventName"], one["EventSource"], one["ReadOnly"]) for one in found] == [
        ("ListTopics", "sns.amazonaws.com", "true"),
        ("GetParameter", "ssm.amazonaws.com", "true"),
        ("PutParameter", "ssm.amazonaws.com", "false"),
    ]
    events = [json.loads(one["CloudTrailEvent"]) for one in found]
    assert [event.get("errorCode") for event in events] == ["AccessDenied", None, None]
    for event in events:
        identity = event["userIdentity"]
        assert (identity["type"], identity["sessionContext"]["sessionIssuer"]["arn"]) == ("AssumedRole", role)
        assert identity["arn"] == f"arn:aws:sts::{TEST}:assumed-role/{name}/{name}"
    # Events are in one account and region, those of IAM in us-east-1.
    assert lookup(cloud.client("cloudtrail", OUTSIDE), **by("Username", name))["Events"] == []
    other = lookup(cloud.client("cloudtrail", TEST, region="us-east-1"), **by("Username", name))["Events"]
    assert [one["EventName"] for one in other] == ["ListUsers"]
    assert lookup(trail, **by("Username", name), EndTime=begin)["Events"] == []


def test_what_a_user_does_with_data_is_not_in_the_trail(cloud):
    person = cloud.user(TEST, "trail-user", [allow(["s3:*", "sqs:*"])])
    s3 = cloud.client("s3", credentials=person)
    s3.create_bucket(Bucket="trail-data", CreateBucketConfiguration={"LocationConstraint": REGION})
    s3.list_objects_v2(Bucket="trail-data")
    s3.put_object(Bucket="trail-data", Key="a", Body=b"1")
    url, _ = cloud.queue(TEST, "trail-data")
    cloud.client("sqs", credentials=person).send_message(QueueUrl=url, MessageBody="{}")
    found = lookup(cloud.client("cloudtrail", TEST), **by("Username", "trail-user"))["Events"]
    assert [one["EventName"] for one in found] == ["CreateBucket"]
    identity = json.loads(found[0]["CloudTrailEvent"])["userIdentity"]
    assert (identity["type"], identity["userName"]) == ("IAMUser", "trail-user")


def test_there_are_two_calls_a_second_and_fifty_events_a_page(cloud):
    person = cloud.client("ssm", credentials=cloud.user(PRODUCTION, "trail-often", [allow("ssm:*")]))
    trail = cloud.client("cloudtrail", PRODUCTION)
    for _ in range(51):
        person.describe_parameters()
    request = by("Username", "trail-often")
    first = lookup(trail, **request)
    second = lookup(trail, **request, NextToken=first["NextToken"])
    assert (len(first["Events"]), len(second["Events"]), "NextToken" in second) == (50, 1, False)
    assert len({one["EventId"] for one in first["Events"] + second["Events"]}) == 51
    time.sleep(1.1)
    trail.lookup_events(**request)
    trail.lookup_events(**request)
    assert refusal(trail.lookup_events, **request) == "ThrottlingException"
    cloud.client("cloudtrail", OUTSIDE).lookup_events()
    time.sleep(1.1)
    with pytest.raises(ClientError, match="one attribute"):
        lookup(trail, LookupAttributes=2 * request["LookupAttributes"])
