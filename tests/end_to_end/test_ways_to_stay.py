"""Ways to stay or to come back after a window, tried by somebody who has access to everything.

The boundary denies each call, and the account's administrator then does the same: a call that fails for everybody would
show nothing. tests/iam/boundary has the ways that the local cloud can't show.
"""

import json

import boto3
import pytest

from tools.layout import REGION
from tools.local_stack import job
from tools.local_stack.observed import error_code

DENIED = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "AuthorizationError"}
STRANGER = "999999999999"
OPEN_TO_STRANGER = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"AWS": f"arn:aws:iam::{STRANGER}:root"},
                "Action": "dsql:DbConnect",
                "Resource": "*",
            }
        ],
    }
)


@pytest.fixture(scope="module")
def clients(stack):
    """Two functions that make the client of a service: for the administrator, and for somebody who has access."""
    admin, boundary = stack.client("production", "iam"), stack.outputs("production")["AccessBoundaryArn"]
    admin.create_user(
        UserName="stays", PermissionsBoundary=boundary, Tags=[{"Key": "sekisho:access", "Value": "grantable"}]
    )
    key = admin.create_access_key(UserName="stays")["AccessKey"]
    job.invoke(
        stack, "production", "temp-access", {"user": "stays", "profile": "admin", "minutes": 30, "reason": "to try"}
    )

    def holder(service):
        return boto3.client(
            service,
            region_name=REGION,
            endpoint_url=stack.endpoint,
            aws_access_key_id=key["AccessKeyId"],
            aws_secret_access_key=key["SecretAccessKey"],
        )

    return lambda service: stack.client("production", service), holder


@pytest.fixture(scope="module")
def known(clients):
    """What the account has: the names of its resources, for the parameters of the calls."""
    admin, _ = clients
    admin("iot").create_thing(thingName="door")
    admin("iot").create_thing_group(thingGroupName="trusted")
    admin("events").create_event_bus(Name="findings")
    admin("events").put_permission(
        EventBusName="findings", StatementId="members", Action="events:PutEvents", Principal=STRANGER
    )
    pool = admin("cognito-idp").create_user_pool(PoolName="shop")["UserPool"]["Id"]
    admin("cognito-idp").admin_create_user(UserPoolId=pool, Username="guest")
    admin("signer").put_signing_profile(profileName="release", platformId="AWSLambda-SHA384-ECDSA")
    return {
        "pool": pool,
        "certificate": admin("iot").create_keys_and_certificate(setAsActive=False)["certificateId"],
        "cluster": admin("dsql").create_cluster()["identifier"],
    }


# The name of the way, the service, the call, and its parameters. A parameter may be the name of something in `known`.
WAYS = [
    ("a user whose login an identity pool exchanges", "cognito-idp", "admin_create_user", {"Username": "later"}),
    (
        "a password of such a user",
        "cognito-idp",
        "admin_set_user_password",
        {"Username": "guest", "Password": "Aa1!aaaaaa", "Permanent": True},
    ),
    (
        "another issuer of such logins",
        "cognito-idp",
        "create_identity_provider",
        {"ProviderName": "mine", "ProviderType": "OIDC", "ProviderDetails": {"client_id": "x"}},
    ),
    ("a client for such logins", "cognito-idp", "create_user_pool_client", {"ClientName": "mine"}),
    (
        "credentials for anybody",
        "cognito-identity",
        "create_identity_pool",
        {"IdentityPoolName": "mine", "AllowUnauthenticatedIdentities": True},
    ),
    (
        "the policies of a group of devices",
        "iot",
        "add_thing_to_thing_group",
        {"thingName": "door", "thingGroupName": "trusted"},
    ),
    (
        "an inactive certificate made active",
        "iot",
        "update_certificate",
        {"certificateId": "certificate", "newStatus": "ACTIVE"},
    ),
    (
        "a bus of those who watch",
        "events",
        "remove_permission",
        {"EventBusName": "findings", "StatementId": "members"},
    ),
    (
        "a database for another account",
        "dsql",
        "put_cluster_policy",
        {"identifier": "cluster", "policy": OPEN_TO_STRANGER},
    ),
    (
        "another account that signs code",
        "signer",
        "add_profile_permission",
        {"profileName": "release", "action": "signer:StartSigningJob", "principal": STRANGER, "statementId": "mine"},
    ),
    (
        "documents that anybody may read",
        "ssm",
        "update_service_setting",
        {"SettingId": "/ssm/documents/console/public-sharing-permission", "SettingValue": "Enable"},
    ),
    (
        "other code at the next start of a task",
        "ecs",
        "register_task_definition",
        {"family": "mine", "containerDefinitions": [{"name": "one", "image": "mine", "memory": 64}]},
    ),
    (
        "other code in the next instance",
        "ec2",
        "create_launch_template",
        {"LaunchTemplateName": "mine", "LaunchTemplateData": {"ImageId": "ami-1"}},
    ),
    (
        "signed addresses of private content",
        "cloudfront",
        "create_public_key",
        {"PublicKeyConfig": {"CallerReference": "mine", "Name": "mine", "EncodedKey": "mine"}},
    ),
    ("a longer session", "sts", "get_federation_token", {"Name": "later"}),
    ("nobody who scans", "inspector2", "disable", {}),
]


def parameters(service, request, known):
    """Returns the parameters, with the identifiers of the resources in place of their names."""
    found = {key: known.get(value, value) if isinstance(value, str) else value for key, value in request.items()}
    return {"UserPoolId": known["pool"], **found} if service == "cognito-idp" else found


@pytest.mark.parametrize(("service", "call", "request_"), [one[1:] for one in WAYS], ids=[one[0] for one in WAYS])
def test_the_boundary_denies_what_an_administrator_may(clients, known, service, call, request_):
    admin, holder = clients
    request_ = parameters(service, request_, known)
    assert error_code(lambda: getattr(holder(service), call)(**request_)) in DENIED
    getattr(admin(service), call)(**request_)


def test_a_record_of_the_network_stays(clients):
    admin, holder = clients
    network = admin("ec2").describe_vpcs()["Vpcs"][0]["VpcId"]
    made = admin("ec2").create_flow_logs(
        ResourceIds=[network], ResourceType="VPC", TrafficType="ALL", LogGroupName="flows"
    )
    assert error_code(lambda: holder("ec2").delete_flow_logs(FlowLogIds=made["FlowLogIds"])) in DENIED
    found = admin("ec2").describe_flow_logs()["FlowLogs"]
    assert made["FlowLogIds"][0] in [one["FlowLogId"] for one in found]


def test_the_same_services_stay_open_for_work(clients, known):
    _, holder = clients
    holder("iot").update_thing(thingName="door", attributePayload={"attributes": {"floor": "1"}})
    holder("cognito-idp").admin_disable_user(UserPoolId=known["pool"], Username="guest")
    sent = holder("events").put_events(
        Entries=[{"Source": "shop", "DetailType": "Order", "Detail": "{}", "EventBusName": "findings"}]
    )
    assert sent["FailedEntryCount"] == 0
    assert holder("ecs").list_clusters()["clusterArns"] == []
