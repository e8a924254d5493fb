"""One stack for all tests: the real template, deployed by `sam deploy` into three accounts of a local cloud."""

import pytest

from tools.layout import LOCAL
from tools.local_stack.job import Clone
from tools.local_stack.stack import passing


@pytest.fixture(scope="session")
def stack():
    with passing(LOCAL / "test") as stack:
        yield stack


@pytest.fixture(scope="session")
def clone(stack):
    return Clone(stack, stack.places.folder / "clone")
