"""The policies of the accounts, as deployed."""

from tests.template.conftest import accounts, cloud_of_all, deployer, service_deployer  # noqa: F401  (fixtures)
