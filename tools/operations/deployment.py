"""The deployment that is about to begin, and the facts that the preflight looks up for it."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import boto3
from botocore.config import Config

from tools.failure import Failure
from tools.operations import stack_history
from tools.operations.environment import Environment, environment
from tools.operations.template import value

# The preflight must not wait for minutes if a service can't be reached from this network.
IMPATIENT = Config(connect_timeout=5, read_timeout=15, retries={"total_max_attempts": 2})


@dataclass(frozen=True)
class Problem:
    """What is wrong (`text`), and what to do (`fix`). If `blocks` is false, the problem is only reported."""

    text: str
    fix: str
    blocks: bool = True


class Unknown(Exception):
    """A fact could not be checked; the text says why."""


class Deployment:
    """The deployment that is about to begin, and the AWS clients that the checks use."""

    def __init__(self, target: Environment) -> None:
        self.target = target
        self.repositories = environment(target.repositories)

    @cached_property
    def session(self) -> boto3.Session:
        """The session of the environment; fails if the profile leads to another account."""
        return self.target.session()

    @cached_property
    def stack(self) -> dict[str, Any] | None:
        """The stack as DescribeStacks returns it; None if there is no stack."""
        return stack_history.present(self.client("cloudformation"), self.target.stack)

    @property
    def partition(self) -> str:
        """The partition of the environment's region, such as aws or aws-cn."""
        return self.session.get_partition_for_region(self.target.region)

    @property
    def retry(self) -> str:
        """The command that tries the deployment again."""
        return f"make deploy ENV={self.target.name}"

    def client(self, service: str, region: str | None = None) -> Any:
        """A client of the environment's account."""
        return self._client(self.session, service, region)

    def client_of_repositories(self, service: str) -> Any:
        """A client of the repository account, with the profile of its environment."""
        try:
            session = self.repositories.session()
        except Failure as failure:
            raise Unknown(str(failure)) from None
        return self._client(session, service, None)

    def _client(self, session: boto3.Session, service: str, region: str | None) -> Any:
        make_client: Any = session.client
        return make_client(service, region_name=region, config=IMPATIENT)

    def has(self, duty: str) -> bool:
        """Whether the parameter is true in the environment, or by the template's default."""
        return value(self.target, duty) == "true"
