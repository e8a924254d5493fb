"""The process itself: its port, its end, and that it takes the functions along."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import zipfile

import pytest

from tests.local_cloud.accounts import HERE, PRODUCTION, REGION, Cloud, allow, free_port, start

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


def make(cloud, folder, name, bootstrap, **settings):
    """Makes a native function of a script."""
    package = folder / f"{name}.zip"
    with zipfile.ZipFile(package, "w") as archive:
        entry = zipfile.ZipInfo("bootstrap")
        entry.external_attr = 0o755 << 16
        archive.writestr(entry, bootstrap)
    role = cloud.role(PRODUCTION, name, {"Service": "lambda.amazonaws.com"}, [allow("sqs:SendMessage")])
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
    """Makes a function and answers what it says of itself."""
    logging = {"LogFormat": "JSON", "ApplicationLogLevel": "WARN"}
    client = make(cloud, folder, "native", BOOTSTRAP, LoggingConfig=logging)
    answer = client.invoke(FunctionName="native", Payload=b'{"a": 1}')
    return json.loads(answer["Payload"].read())


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
def test_its_end_is_the_end_of_its_functions(tmp_path, monkeypatch, ending):
    monkeypatch.setenv("SEKISHO_CONFIG", "/some/sekisho.toml")
    monkeypatch.setenv("SECRET", "of the caller")
    port = free_port()
    process = start(tmp_path / "data", port)
    said = function(Cloud(tmp_path / "data", port), tmp_path)
    assert said["event"] == {"a": 1} and said["config"] == "/some/sekisho.toml" and said["secret"] is None
    assert said["level"] == "WARN"
    assert said["endpoint"] == f"http://127.0.0.1:{port}"
    assert alive(said["pid"])
    process.send_signal(ending)
    assert process.wait(timeout=10) == (-signal.SIGKILL if ending == signal.SIGKILL else 0)
    end = time.monotonic() + 5
    while (alive(said["pid"]) or listens(port)) and time.monotonic() < end:
        time.sleep(0.05)
    assert not alive(said["pid"]) and not listens(port)


def test_a_server_that_dies_takes_its_functions_along(tmp_path):
    port = free_port()
    process = start(tmp_path / "data", port)
    said = function(Cloud(tmp_path / "data", port), tmp_path)
    with open(f"/proc/{process.pid}/task/{process.pid}/children") as children:
        os.kill(int(children.read()), signal.SIGKILL)
    assert process.wait(timeout=10) == 1
    assert "cloud.log" in process.stderr.read()
    assert not alive(said["pid"])


def test_what_a_rule_could_not_deliver_is_dead_lettered(cloud, tmp_path):
    url, queue = cloud.queue(PRODUCTION, "dead-letters")
    make(cloud, tmp_path, "failing", FAILING, DeadLetterConfig={"TargetArn": queue})
    events = cloud.client("events", PRODUCTION)
    events.put_rule(Name="failing", EventPattern='{"source": ["for.failing"]}')
    events.put_targets(
        Rule="failing", Targets=[{"Id": "function", "Arn": f"arn:aws:lambda:{REGION}:{PRODUCTION}:function:failing"}]
    )
    events.put_events(Entries=[{"Source": "for.failing", "DetailType": "Any", "Detail": '{"n": 1}'}])
    assert cloud.messages(PRODUCTION, url, seconds=1) == []
    (letter,) = cloud.messages(PRODUCTION, url)
    assert letter["source"] == "for.failing" and letter["detail"] == {"n": 1}


def test_a_server_that_does_not_start_is_said(tmp_path):
    (tmp_path / "repositories").mkdir()
    # A repository without its folder for hooks: the server can't install what tells of pushes.
    (tmp_path / "repositories" / "broken.git").mkdir()
    done = subprocess.run(
        [sys.executable, HERE / "cloud.py", "--port", str(free_port()), "--data", tmp_path],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (done.returncode, done.stdout) == (1, "") and "cloud.log" in done.stderr
    assert "broken.git" in (tmp_path / "cloud.log").read_text()


def test_another_emulator_is_refused(tmp_path):
    done = subprocess.run(
        ["/usr/bin/env", "python3", "-I", "-S", HERE / "cloud.py", "--port", "1", "--data", tmp_path],
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert done.returncode == 2 and "pip install 'ministack[full]==1.5.33'" in done.stderr


def test_a_used_port_is_said(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [sys.executable, HERE / "cloud.py", "--port", port, "--data", tmp_path],
            capture_output=True,
            text=True,
            timeout=20,
        )
    assert done.returncode == 2 and port in done.stderr and "--port" in done.stderr and done.stdout == ""
