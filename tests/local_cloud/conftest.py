"""All tests of a session share one cloud."""

import signal

import pytest

from tests.local_cloud.accounts import Cloud, start
from tools.ports import free_port


@pytest.fixture(scope="session")
def cloud(tmp_path_factory):
    data, port = tmp_path_factory.mktemp("cloud"), free_port()
    process = start(data, port)
    yield Cloud(data, port)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=10) == 0
