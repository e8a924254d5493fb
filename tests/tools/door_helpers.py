"""What the tests of doors share: names, a configuration with people, users of the account, and choices in Slack."""

import urllib.request

from botocore.exceptions import ClientError

from tests.local_cloud.accounts import document
from tests.tools.faults import T
from tools.layout import REGION
from tools.operations.doors import Doors

FUNCTION = f"arn:aws:lambda:{REGION}:{T}:function:temp-access"
HANA = f"arn:aws:iam::{T}:role/sekisho-door-hana-{REGION}"
PEOPLE = """
[access.people.hana]
may_ask = ["admin"]
for = ["user/prd-hana"]
may_approve = ["admin"]
"""
GROUP = """
[access.people.approvers]
members = ["hana"]
may_approve = ["admin"]
"""
ANYTHING = {"Effect": "Allow", "Action": "*", "Resource": "*"}


def doors(cloud, target):
    return Doors(target, lambda service: cloud.client(T, service))


def choose(cloud, member, role, channel=f"sekisho-{T}-{REGION}"):
    """A member of the channel chooses a role in Slack."""
    path = f"/_local-cloud/slack-role/{T}/{channel}/{member}"
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(urllib.request.Request(cloud.endpoint + path, role.encode(), method="POST")) as answer:
        assert answer.read() == b"chosen\n"


def users(cloud, **statements):
    """Creates users with one statement each, and returns Lambda's clients of theirs."""
    iam, clients = cloud.client(T, "iam"), {}
    for name, statement in statements.items():
        iam.create_user(UserName=name)
        iam.put_user_policy(UserName=name, PolicyName="own", PolicyDocument=document([statement]))
        key = iam.create_access_key(UserName=name)["AccessKey"]
        client = cloud.client(T, "lambda")
        client._request_signer._credentials.access_key = key["AccessKeyId"]
        client._request_signer._credentials.secret_key = key["SecretAccessKey"]
        clients[name] = client
    return clients


def delete_users(cloud, *names):
    iam = cloud.client(T, "iam")
    for name in names:
        for policy_name in iam.list_user_policies(UserName=name)["PolicyNames"]:
            iam.delete_user_policy(UserName=name, PolicyName=policy_name)
        for key in iam.list_access_keys(UserName=name)["AccessKeyMetadata"]:
            iam.delete_access_key(UserName=name, AccessKeyId=key["AccessKeyId"])
        iam.delete_user(UserName=name)


def is_denied(functions, **request):
    try:
        functions.invoke(Payload=b"{}", **request)
    except ClientError as error:
        assert error.response["Error"]["Code"] == "AccessDeniedException", error
        return True
    return False
