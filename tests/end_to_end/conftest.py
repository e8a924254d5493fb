"""The real template, deployed by `sam deploy` into three accounts of a local cloud: a stack for each pytest worker."""

import pytest

from tests.end_to_end import people
from tools.layout import LOCAL
from tools.local_stack import job
from tools.local_stack.stack import temporary_stack


@pytest.fixture(scope="session")
def stack(worker_id):
    with temporary_stack(LOCAL / "test" / worker_id) as stack:
        yield stack


@pytest.fixture(scope="session")
def user(stack):
    """A function that creates a prepared user, and returns another function, which makes the clients of that user."""
    iam, boundary = stack.client("production", "iam"), stack.outputs("production")["AccessBoundaryArn"]

    def make(name):
        iam.create_user(UserName=name, PermissionsBoundary=boundary, Tags=people.TAGS)
        return people.clients(stack, iam.create_access_key(UserName=name)["AccessKey"])

    return make


@pytest.fixture(scope="session")
def clone(stack):
    return job.clone(stack, stack.places.folder / "clone")
