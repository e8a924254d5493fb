"""The organization of the accounts: who may ask about it, and the condition keys that come from it."""

import pytest
from botocore.exceptions import ClientError

from tests.local_cloud.accounts import OUTSIDE, PRODUCTION, REPOSITORY, TEST, allow, code, document
from tests.local_cloud.delivery import Delivery
from tools.layout import ORGANIZATION, ORGANIZATION_ROOT, WORKLOADS, WORKLOADS_UNIT


def test_only_the_management_account_reads_the_tree(cloud):
    management = cloud.client("organizations")
    for account in (REPOSITORY, TEST, OUTSIDE):
        organization = cloud.client("organizations", account).describe_organization()["Organization"]
        assert (organization["Id"], organization["MasterAccountId"]) == (ORGANIZATION, REPOSITORY)
    with pytest.raises(ClientError) as caught:
        cloud.client("organizations", TEST).list_accounts()
    assert code(caught) == "AccessDeniedException"
    stranger = cloud.user("555555555555", "stranger", [allow("*")])
    with pytest.raises(ClientError) as caught:
        cloud.client("organizations", credentials=stranger).describe_organization()
    assert code(caught) == "AWSOrganizationsNotInUseException"

    (root,) = management.list_roots()["Roots"]
    (unit,) = management.list_organizational_units_for_parent(ParentId=root["Id"])["OrganizationalUnits"]
    assert (root["Id"], unit["Id"], unit["Name"]) == (ORGANIZATION_ROOT, WORKLOADS_UNIT, "workloads")
    children = {
        parent: {one["Id"] for one in management.list_accounts_for_parent(ParentId=parent)["Accounts"]}
        for parent in (root["Id"], unit["Id"])
    }
    assert children[unit["Id"]] == {TEST, PRODUCTION} and {REPOSITORY, OUTSIDE} <= children[root["Id"]]


def conditioned(cloud, account: str, name: str, condition: dict):
    """The SQS client of a user who may list queues on a condition."""
    statement = allow("sqs:ListQueues", Condition=condition)
    return cloud.client("sqs", credentials=cloud.user(account, name, [statement]))


def admits(client) -> bool:
    try:
        client.list_queues()
    except ClientError as error:
        assert "AccessDenied" in error.response["Error"]["Code"]
        return False
    return True


def test_the_keys_of_the_principal_and_of_the_resource(cloud):
    for number, (account, key, value, expected) in enumerate(
        [
            (TEST, "aws:PrincipalOrgID", ORGANIZATION, True),
            (OUTSIDE, "aws:PrincipalOrgID", ORGANIZATION, True),
            ("555555555555", "aws:PrincipalOrgID", ORGANIZATION, False),
            (TEST, "aws:PrincipalOrgID", "o-another", False),
            (TEST, "aws:ResourceOrgID", ORGANIZATION, True),
            ("555555555555", "aws:ResourceOrgID", ORGANIZATION, False),
            (TEST, "aws:SourceOrgID", ORGANIZATION, False),
        ]
    ):
        condition = {"StringEquals": {key: value}}
        assert admits(conditioned(cloud, account, f"of-{number}", condition)) == expected, (account, key, value)
    for number, (account, key, pattern, expected) in enumerate(
        [
            (TEST, "aws:PrincipalOrgPaths", WORKLOADS, True),
            (TEST, "aws:ResourceOrgPaths", f"{ORGANIZATION}/*/{WORKLOADS_UNIT}/*", True),
            (OUTSIDE, "aws:PrincipalOrgPaths", f"{WORKLOADS}*", False),
            (OUTSIDE, "aws:ResourceOrgPaths", f"{WORKLOADS}*", False),
            (OUTSIDE, "aws:PrincipalOrgPaths", f"{ORGANIZATION}/{ORGANIZATION_ROOT}/", True),
            (REPOSITORY, "aws:PrincipalOrgPaths", f"{ORGANIZATION}/{ORGANIZATION_ROOT}/", True),
        ]
    ):
        condition = {"ForAnyValue:StringLike": {key: pattern}}
        assert admits(conditioned(cloud, account, f"at-{number}", condition)) == expected, (account, key, pattern)


def test_an_account_that_moves_gets_the_path_of_its_unit(cloud):
    management = cloud.client("organizations")
    created = management.create_account(Email="new@example.com", AccountName="new")["CreateAccountStatus"]["AccountId"]
    condition = {"ForAnyValue:StringLike": {"aws:PrincipalOrgPaths": f"{WORKLOADS}*"}}
    client = conditioned(cloud, created, "mover", condition)
    assert not admits(client)
    below = management.create_organizational_unit(ParentId=WORKLOADS_UNIT, Name="below")["OrganizationalUnit"]["Id"]
    management.move_account(AccountId=created, SourceParentId=ORGANIZATION_ROOT, DestinationParentId=below)
    assert admits(client)
    exact = {"ForAnyValue:StringEquals": {"aws:PrincipalOrgPaths": f"{WORKLOADS}{below}/"}}
    assert admits(conditioned(cloud, created, "exact", exact))
    assert not admits(conditioned(cloud, TEST, "exact", exact))
    management.move_account(AccountId=created, SourceParentId=below, DestinationParentId=ORGANIZATION_ROOT)
    assert not admits(client)


@pytest.mark.parametrize(("path", "admitted"), [(WORKLOADS, True), (f"{ORGANIZATION}/{ORGANIZATION_ROOT}/", False)])
def test_a_service_has_the_path_of_the_account_for_which_it_acts(cloud, path, admitted):
    delivery = Delivery(cloud, TEST, f"source-{admitted}".lower())
    iam = cloud.client("iam", TEST)

    def trust(key: str) -> None:
        statement = {"Effect": "Allow", "Principal": {"Service": "codepipeline.amazonaws.com"}}
        condition = {"Condition": {"ForAnyValue:StringLike": {key: path}}}
        iam.update_assume_role_policy(
            RoleName=f"{delivery.name}-pipeline",
            PolicyDocument=document([statement | {"Action": "sts:AssumeRole"} | condition]),
        )

    def creates() -> bool:
        try:
            delivery.client.create_pipeline(pipeline=delivery.structure())
        except ClientError as error:
            assert error.response["Error"]["Code"] == "InvalidStructureException"
            return False
        return True

    # A service itself is no principal of an organization.
    trust("aws:PrincipalOrgPaths")
    assert not creates()
    trust("aws:SourceOrgPaths")
    assert creates() == admitted
