"""The local stack needs only a profile, a second deployment changes nothing, and an ended stack leaves nothing."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tools.failure import Failure
from tools.layout import ACCOUNTS, PERSON, ROOT, Places, tool
from tools.local_stack import server
from tools.local_stack.stack import deploy
from tools.ports import free_port
from tools.processes import started_at

SECONDS = 30


@pytest.mark.parametrize("profile", [*ACCOUNTS, PERSON])
def test_the_command_line_needs_the_profile_only(stack, profile):
    command: list[str | Path] = [tool("aws"), "--profile", profile, "sts", "get-caller-identity"]
    env = {"PATH": os.environ["PATH"], "AWS_CONFIG_FILE": str(stack.places.config)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["Account"] == ACCOUNTS.get(profile, ACCOUNTS["production"])


def test_the_stand_ins_are_reached_with_the_profile_only(stack):
    env = {"PATH": os.environ["PATH"], "AWS_CONFIG_FILE": str(stack.places.config)}
    for service, operation in (("codecommit", "list-repositories"), ("codepipeline", "list-pipelines")):
        profile = "repository" if service == "codecommit" else "test"
        command: list[str | Path] = [tool("aws"), "--profile", profile, service, operation]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
        assert '"name": "shop"' in done.stdout or '"repositoryName": "shop"' in done.stdout, done.stderr


def test_a_second_deployment_changes_nothing(stack):
    def code(profile):
        listed = stack.client(profile, "lambda").list_functions()["Functions"]
        return {one["FunctionName"]: (one["CodeSha256"], one["LastModified"]) for one in listed}

    def keys():
        return stack.client("production", "iam").list_access_keys(UserName=PERSON)["AccessKeyMetadata"]

    before, held = {profile: code(profile) for profile in ACCOUNTS}, keys()
    deploy(stack)
    assert {profile: code(profile) for profile in ACCOUNTS} == before
    assert keys() == held


def test_a_released_cloud_is_found_again_and_ended(tmp_path):
    places = Places(tmp_path)
    assert server.running(places) is None and not server.end(places)
    cloud, port = server.start(places)
    server.remember(places, cloud, port)
    cloud.release()
    about = server.running(places)
    assert about
    assert about["port"] == port
    with pytest.raises(Failure, match=f"Port {port} can't be used"):
        free_port(port)
    assert server.end(places)
    assert server.running(places) is None
    assert free_port(port) == port
    server.clear(places)
    assert list(tmp_path.iterdir()) == []


def test_a_killed_stack_leaves_no_process_and_no_port(tmp_path):
    holder = f"""
import sys, time
from pathlib import Path
sys.path.insert(0, {str(ROOT)!r})
from tools.local_stack import server
from tools.layout import Places
cloud, port = server.start(Places(Path({str(tmp_path)!r})))
print(cloud.pid, port, flush=True)
time.sleep(300)
"""
    process = subprocess.Popen([sys.executable, "-c", holder], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    line = next(line for line in process.stdout if line.split()[0].isdigit())
    keeper, port = map(int, line.split())
    socket.create_connection(("127.0.0.1", port)).close()
    process.send_signal(signal.SIGKILL)
    process.wait(SECONDS)
    deadline = time.monotonic() + SECONDS

    def left():
        running = []
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                running += [entry.parent.name] if str(tmp_path).encode() in entry.read_bytes() else []
            except OSError:
                continue
        return running

    while started_at(keeper) or left():
        assert time.monotonic() < deadline, f"still there: {left()}"
        time.sleep(0.05)
    with socket.socket() as probe, pytest.raises(ConnectionRefusedError):
        probe.connect(("127.0.0.1", port))
