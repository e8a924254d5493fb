"""The process of the local cloud: its port, its end, and the end of the functions that it started."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from tests.local_cloud.accounts import PRODUCTION, Cloud, allow, start
from tools.layout import LOCAL_CLOUD, REGION
from tools.ports import free_port
from tools.processes import started_at

BOOTSTRAP = f"""#!{sys.executable}
import json, os, pathlib, urllib.request
api = "http://" + os.environ["AWS_LAMBDA_RUNTIME_API"] + "/2018-06-01/runtime/invocation/"
while True:
    with urllib.request.urlopen(api + "next") as event:
        request, body = event.headers["Lambda-Runtime-Aws-Request-Id"], json.load(event)
    answer = {{"pid": os.getpid(), "config": os.environ.get("SEKISHO_CONFIG"), "secret": os.environ.get("SECRET"),
              "level": os.environ.get("AWS_LAMBDA_LOG_LEVEL"),
              "endpoint": os.environ["AWS_ENDPOINT_URL"], "event": body}}
    urllib.request.urlopen(api + request + "/response", json.dumps(answer).encode())
"""


FAILING = BOOTSTRAP.replace("/response", "/error")


def make(cloud, folder, name, bootstrap, statements=(), **settings):
    """Creates a native function from a script. Its role has these statements, and may send messages to queues."""
    package = folder / f"{name}.zip"
    with zipfile.ZipFile(package, "w") as archive:
        entry = zipfile.ZipInfo("bootstrap")
        entry.external_attr = 0o755 << 16
        archive.writestr(entry, bootstrap)
    role = cloud.role(PRODUCTION, name, {"Service": "lambda.amazonaws.com"}, [allow("sqs:SendMessage"), *statements])
    client = cloud.client("lambda", PRODUCTION)
    client.create_function(
        FunctionName=name,
        Runtime="provided.al2023",
        Handler="bootstrap",
        Role=role,
        Code={"ZipFile": package.read_bytes()},
        Timeout=10,
        **settings,
    )
    client.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1})
    return client


def function(cloud, folder) -> dict:
    """Creates and invokes a function, and returns the function's report about its own environment."""
    logging = {"LogFormat": "JSON", "ApplicationLogLevel": "WARN"}
    client = make(cloud, folder, "native", BOOTSTRAP, LoggingConfig=logging)
    answer = client.invoke(FunctionName="native", Payload=b'{"a": 1}')
    return json.loads(answer["Payload"].read())


def alive(pid: int) -> bool:
    return started_at(pid) is not None


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
def test_its_functions_end_with_it(tmp_path, monkeypatch, ending):
    monkeypatch.setenv("SEKISHO_CONFIG", "/some/sekisho.toml")
    monkeypatch.setenv("SECRET", "of the caller")
    port = free_port()
    process = start(tmp_path / "data", port)
    report = function(Cloud(tmp_path / "data", port), tmp_path)
    assert report["event"] == {"a": 1} and report["config"] == "/some/sekisho.toml" and report["secret"] is None
    assert report["level"] == "WARN"
    assert report["endpoint"] == f"http://127.0.0.1:{port}"
    assert alive(report["pid"])
    process.send_signal(ending)
    assert process.wait(timeout=10) == (-signal.SIGKILL if ending == signal.SIGKILL else 0)
    end = time.monotonic() + 5
    while (alive(report["pid"]) or listens(port)) and time.monotonic() < end:
        time.sleep(0.05)
    assert not alive(report["pid"]) and not listens(port)


def test_functions_end_with_a_server_that_is_killed(tmp_path):
    port = free_port()
    process = start(tmp_path / "data", port)
    report = function(Cloud(tmp_path / "data", port), tmp_path)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    os.kill(int(children), signal.SIGKILL)
    assert process.wait(timeout=10) == 1
    assert process.stderr
    assert "cloud.log" in process.stderr.read()
    assert not alive(report["pid"])


def test_an_event_that_fails_becomes_a_dead_letter(cloud, tmp_path):
    url, queue = cloud.queue(PRODUCTION, "dead-letters")
    make(cloud, tmp_path, "failing", FAILING, DeadLetterConfig={"TargetArn": queue})
    events = cloud.client("events", PRODUCTION)
    events.put_rule(Name="failing", EventPattern='{"source": ["for.failing"]}')
    events.put_targets(
        Rule="failing", Targets=[{"Id": "function", "Arn": f"arn:aws:lambda:{REGION}:{PRODUCTION}:function:failing"}]
    )
    events.put_events(Entries=[{"Source": "for.failing", "DetailType": "Any", "Detail": '{"n": 1}'}])
    assert cloud.messages(PRODUCTION, url, seconds=1) == []
    (dead_letter,) = cloud.messages(PRODUCTION, url)
    assert dead_letter["source"] == "for.failing"
    assert dead_letter["detail"] == {"n": 1}


def test_a_server_that_does_not_start_is_reported(tmp_path):
    (tmp_path / "repositories").mkdir()
    # The server can't install its hook in this repository, because the repository has no folder for hooks.
    (tmp_path / "repositories" / "broken.git").mkdir()
    done = subprocess.run(
        [sys.executable, LOCAL_CLOUD, "--port", str(free_port()), "--data", tmp_path],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "") and "cloud.log" in done.stderr
    assert "broken.git" in (tmp_path / "cloud.log").read_text()


def test_an_environment_without_the_emulator_is_refused(tmp_path):
    done = subprocess.run(
        ["/usr/bin/env", "python3", "-I", "-S", LOCAL_CLOUD, "--port", "1", "--data", tmp_path],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 2 and "pip install 'ministack[full]==1.5.33'" in done.stderr


def test_a_used_port_is_reported(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [sys.executable, LOCAL_CLOUD, "--port", port, "--data", tmp_path],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
    assert done.returncode == 2 and port in done.stderr and "--port" in done.stderr and done.stdout == ""
