"""All tests of a session share one cloud, which has all accounts."""

import json

import pytest

from tests.template import deployed, policies

OF_DEPLOYERS = "444444444444"  # the account of the people who deploy to production
PRODUCTION = "333333333333"
TEST = "222222222222"
MANAGED = "ManagesPipeline"
DOOR, PREPARED = "hana", "prd-hana"  # a door of temp-access in production, and a user whom its stack prepares


@pytest.fixture(scope="session")
def cloud_of_all():
    """A cloud with the accounts of `deployed.ACCOUNTS`, and the role that deploys in one of them."""
    with deployed.cloud() as cloud:
        template = deployed.expanded()
        # The stack attaches this policy from outside the stack, which lets the application create a queue.
        queue = {
            "Effect": "Allow",
            "Action": "sqs:CreateQueue",
            "Resource": f"arn:aws:sqs:{deployed.REGION}:555555555555:shop-*",
        }
        cloud.client("555555555555", "iam").create_policy(
            PolicyName="shop", PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [queue]})
        )
        # The pipeline accounts are deployed before the repository accounts, to show that no policy needs another order.
        # Only a managed pipeline needs the source role of the repository account first.
        order = [*reversed(deployed.ACCOUNTS)]
        for account in sorted(order, key=lambda one: MANAGED in deployed.ACCOUNTS[one]):
            cloud.deploy(account, deployed.ACCOUNTS[account], template)
        cloud.bootstrap(PRODUCTION, OF_DEPLOYERS)
        cloud.bootstrap(TEST, OF_DEPLOYERS, UsesServiceRole="true")
        cloud.person(PRODUCTION, DOOR, PreparedUser=PREPARED)
        yield cloud


@pytest.fixture(scope="session")
def accounts(cloud_of_all):
    """The policies of each account, by the account's id."""
    return {account: policies.of(cloud_of_all, account) for account in deployed.ACCOUNTS}


@pytest.fixture(scope="session")
def deployer(cloud_of_all):
    """The policies of the role for deployment in the account PRODUCTION."""
    return policies.of(cloud_of_all, PRODUCTION, deployed.BOOTSTRAP_STACK)


@pytest.fixture(scope="session")
def person(cloud_of_all):
    """The policies of the role for the door DOOR, in the account PRODUCTION."""
    return policies.of(cloud_of_all, PRODUCTION, deployed.PERSON_STACK.format(DOOR))


@pytest.fixture(scope="session")
def service_deployer(cloud_of_all):
    """The policies of the role for deployment and of its service role, in the account TEST."""
    return policies.of(cloud_of_all, TEST, deployed.BOOTSTRAP_STACK)
