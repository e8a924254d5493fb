"""One cloud with the three accounts for all tests of a session."""

import pytest

from template import deployed, policies


@pytest.fixture(scope="session")
def accounts():
    """The deployed accounts of `deployed.ACCOUNTS`, and each one's policies."""
    with deployed.cloud() as cloud:
        template = deployed.expanded()
        # Pipelines before repositories; tests/template/test_operator.py has it the other way round. Either order works.
        for account, parameters in reversed(deployed.ACCOUNTS.items()):
            cloud.deploy(account, deployed.PARTNERS | parameters, template)
        yield {account: policies.of(cloud, account) for account in deployed.ACCOUNTS}


@pytest.fixture(scope="session")
def everywhere(accounts):
    """These, and one account that has all duties and no partner."""
    with deployed.cloud() as cloud:
        cloud.deploy("444444444444", dict.fromkeys(["HostsRepositories", "HostsPipelines", "GrantsAccess"], "true"))
        yield accounts | {"444444444444": policies.of(cloud, "444444444444")}
