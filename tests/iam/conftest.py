"""The tests of this folder read the policies of the accounts as the local cloud deployed them."""

from tests.template.conftest import accounts, cloud_of_all, deployer, person, service_deployer  # noqa: F401  (fixtures)
