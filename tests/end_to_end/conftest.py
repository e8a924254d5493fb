"""All tests share one stack: the real template, deployed by `sam deploy` into three accounts of a local cloud."""

import pytest

from tools.layout import LOCAL
from tools.local_stack import job
from tools.local_stack.stack import temporary_stack


@pytest.fixture(scope="session")
def stack():
    with temporary_stack(LOCAL / "test") as stack:
        yield stack


@pytest.fixture(scope="session")
def clone(stack):
    return job.clone(stack, stack.places.folder / "clone")
