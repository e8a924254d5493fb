"""bootstrap/identity-center.yaml: people of Identity Center may do what the policy `sekisho-window` says."""

import datetime
import json
import urllib.request

import boto3
import botocore.exceptions
import pytest
from samtranslator.yaml_helper import yaml_parse

from tests.template import deployed
from tests.template.test_template import ACCESS, lint
from tools.layout import ACCOUNTS, IDENTITY_CENTER, IDENTITY_STORE, REGION

CENTER, TEST, PRODUCTION = (ACCOUNTS[name] for name in ("repository", "test", "production"))
GROUP = {"InstanceArn": IDENTITY_CENTER, "GroupId": "0123456789-11111111-2222-3333-4444-555555555555"}
NAME = "sekisho-window"


@pytest.fixture(scope="module")
def cloud():
    """A cloud with two accounts that grant access, and two people who may sign in with the permission set."""
    with deployed.cloud() as cloud:
        for account in (TEST, PRODUCTION):
            cloud.deploy(account, ACCESS)
        outputs = cloud.identity_center(CENTER, PRODUCTION, **GROUP)
        cloud.identity_center(CENTER, TEST, **GROUP, **outputs)
        yield cloud


def person(cloud, name):
    """Returns the id of a new person."""
    store = cloud.client(CENTER, "identitystore")
    user = {"UserName": name, "DisplayName": name, "Name": {"GivenName": name, "FamilyName": "Sato"}}
    email = f"{name}@example.com"
    created = store.create_user(IdentityStoreId=IDENTITY_STORE, Emails=[{"Value": email, "Primary": True}], **user)
    return created["UserId"]


def session(cloud, account, user):
    """Returns the keys of a person who signs in."""
    url = f"{cloud.endpoint}/_local-cloud/sign-in/{account}/{NAME}"
    with urllib.request.urlopen(urllib.request.Request(url, user.encode(), method="POST"), timeout=30) as answer:
        return json.loads(answer.read())


def may(cloud, keys, service, call, **request):
    """Returns whether a call with these keys is allowed."""
    make_client = boto3.client
    client = make_client(service, region_name=REGION, endpoint_url=cloud.endpoint, **keys)
    try:
        getattr(client, call)(**request)
    except botocore.exceptions.ClientError as error:
        assert "AccessDenied" in error.response["Error"]["Code"], error
        return False
    return True


def write(cloud, account, user, action):
    """Lets one person do something for five minutes, as temp-access does."""
    now = datetime.datetime.now(datetime.UTC)
    begin, end = (f"{now + datetime.timedelta(minutes=offset):%Y-%m-%dT%H:%M:%SZ}" for offset in (-5, 5))
    window = {
        "Effect": "Allow",
        "Action": action,
        "Resource": "*",
        "Condition": {
            "StringEquals": {"identitystore:UserId": user},
            "DateGreaterThan": {"aws:CurrentTime": begin},
            "DateLessThan": {"aws:CurrentTime": end},
        },
    }
    document = json.dumps({"Version": "2012-10-17", "Statement": [window]})
    cloud.client(account, "iam").create_policy_version(
        PolicyArn=f"arn:aws:iam::{account}:policy/{NAME}", PolicyDocument=document, SetAsDefault=True
    )


def test_the_template_is_clean():
    lint(str(deployed.CENTER))


def test_a_person_can_do_nothing_until_the_window_opens_and_never_more_than_the_boundary(cloud):
    hana, taro = person(cloud, "hana"), person(cloud, "taro")
    keys = session(cloud, PRODUCTION, hana)
    assert not may(cloud, keys, "lambda", "list_functions")
    write(cloud, PRODUCTION, hana, "*")
    assert may(cloud, keys, "lambda", "list_functions")
    assert not may(cloud, keys, "iam", "create_user", UserName="stay")
    assert not may(cloud, keys, "lambda", "invoke", FunctionName="temp-access")
    assert not may(cloud, session(cloud, PRODUCTION, taro), "lambda", "list_functions")
    # The same person is not in in another account.
    assert not may(cloud, session(cloud, TEST, hana), "lambda", "list_functions")


def test_a_deployment_does_not_touch_who_is_in(cloud):
    """CloudFormation would make a changed document the default version."""
    jiro = person(cloud, "jiro")
    write(cloud, TEST, jiro, "lambda:ListFunctions")
    keys = session(cloud, TEST, jiro)
    assert may(cloud, keys, "lambda", "list_functions")
    template = deployed.expanded()
    template["Resources"]["TempAccess"]["Properties"]["MemorySize"] = 256
    cloud.update(TEST, ACCESS | {"LogRetentionDays": "7"}, template)
    assert may(cloud, keys, "lambda", "list_functions")


def test_the_documents_of_the_windows_never_change():
    """They are the same as in the release that introduced them."""
    resources = deployed.source()["Resources"]
    ended = {
        "Sid": "Nothing",
        "Effect": "Allow",
        "Action": "sts:GetCallerIdentity",
        "Resource": "*",
        "Condition": {"DateLessThan": {"aws:CurrentTime": "1970-01-01T00:00:00Z"}},
    }
    for suffix in ("", "2", "3"):
        properties = resources[f"WindowPolicy{suffix}"]["Properties"]
        assert properties["ManagedPolicyName"] == (f"{NAME}-{suffix}" if suffix else NAME)
        assert properties["PolicyDocument"] == {"Version": "2012-10-17", "Statement": [ended]}


def test_the_permission_set_refers_to_policies_of_the_stack():
    properties = yaml_parse(deployed.CENTER.read_text())["Resources"]["PermissionSet"]["Properties"]
    policies = [one for one in deployed.source()["Resources"].values() if one["Type"] == "AWS::IAM::ManagedPolicy"]
    names = [one["Properties"]["ManagedPolicyName"] for one in policies]
    boundary = properties["PermissionsBoundary"]["CustomerManagedPolicyReference"]
    assert all(one["Name"] in names for one in [*properties["CustomerManagedPolicyReferences"], boundary])
    assert (properties["Name"], properties["SessionDuration"]) == (NAME, "PT1H")


def test_an_account_without_the_policies_is_not_assigned(cloud):
    with pytest.raises(botocore.exceptions.WaiterError):
        cloud.identity_center(CENTER, "999999999999", **GROUP, PermissionSetArn=arn(cloud))


def arn(cloud):
    """Returns the ARN of the permission set."""
    stack = deployed.CENTER_STACK.format(PRODUCTION)
    outputs = cloud.client(CENTER, "cloudformation").describe_stacks(StackName=stack)["Stacks"][0]["Outputs"]
    return outputs[0]["OutputValue"]


@pytest.mark.parametrize(
    "wrong", [{"GroupId": "developers"}, {"InstanceArn": "ssoins-0123456789abcdef"}, {"PermissionSetArn": "ps-1"}]
)
def test_a_name_in_place_of_an_id_is_refused(cloud, wrong):
    (parameter,) = wrong
    with pytest.raises(botocore.exceptions.ClientError, match=f"Parameter '{parameter}' must be"):
        cloud.identity_center(CENTER, "888888888888", **GROUP | wrong)
