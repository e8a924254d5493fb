"""The stack to play with: reached with the profiles alone, deployed again without change, gone without a trace."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tools.layout import ACCOUNTS, PERSON, Places, tool
from tools.local_stack import server
from tools.local_stack.stack import deploy
from tools.processes import Failure, started_at

SECONDS = 30


@pytest.mark.parametrize("profile", [*ACCOUNTS, PERSON])
def test_the_command_line_needs_the_profile_only(stack, profile):
    command = [tool("aws"), "--profile", profile, "sts", "get-caller-identity"]
    env = {"PATH": os.environ["PATH"], "AWS_CONFIG_FILE": str(stack.places.config)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["Account"] == ACCOUNTS.get(profile, ACCOUNTS["production"])


def test_what_the_stand_in_serves_is_reached_the_same_way(stack):
    env = {"PATH": os.environ["PATH"], "AWS_CONFIG_FILE": str(stack.places.config)}
    for service, operation in (("codecommit", "list-repositories"), ("codepipeline", "list-pipelines")):
        profile = "repository" if service == "codecommit" else "test"
        command = [tool("aws"), "--profile", profile, service, operation]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
        assert '"name": "shop"' in done.stdout or '"repositoryName": "shop"' in done.stdout, done.stderr


def test_deployed_again_nothing_changes(stack):
    def code(profile):
        listed = stack.client(profile, "lambda").list_functions()["Functions"]
        return {one["FunctionName"]: (one["CodeSha256"], one["LastModified"]) for one in listed}

    def keys():
        return stack.client("production", "iam").list_access_keys(UserName=PERSON)["AccessKeyMetadata"]

    before, held = {profile: code(profile) for profile in ACCOUNTS}, keys()
    deploy(stack)
    assert {profile: code(profile) for profile in ACCOUNTS} == before
    assert keys() == held


def test_a_cloud_that_was_let_go_is_found_again_and_ended(tmp_path):
    places = Places(tmp_path)
    assert server.running(places) is None and not server.end(places)
    cloud, port = server.start(places)
    server.remember(places, cloud, port)
    cloud.let_go()
    assert server.running(places)["port"] == port
    with pytest.raises(Failure, match=f"Port {port} can't be used"):
        server.free_port(port)
    assert server.end(places)
    assert server.running(places) is None
    assert server.free_port(port) == port
    server.clear(places)
    assert list(tmp_path.iterdir()) == []


def test_killed_outright_a_stack_leaves_no_process_and_no_port(tmp_path):
    holder = f"""
import sys, time
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from tools.local_stack import server
from tools.layout import Places
cloud, port = server.start(Places(Path({str(tmp_path)!r})))
print(cloud.pid, port, flush=True)
time.sleep(300)
"""
    process = subprocess.Popen([sys.executable, "-c", holder], stdout=subprocess.PIPE, text=True)
    said = next(line for line in process.stdout if line.split()[0].isdigit())
    keeper, port = map(int, said.split())
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
