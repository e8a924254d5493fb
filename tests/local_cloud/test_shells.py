"""The local cloud and its clients work in the same way in every shell and folder, and for every person who pushes."""

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.local_cloud.accounts import REPOSITORY, Cloud, start
from tests.local_cloud.test_cloud import function
from tools.git import git
from tools.layout import REGION, ROOT
from tools.ports import free_port
from tools.processes import run

# Nobody listens on this port, which is reserved for the discard protocol.
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def theirs(tmp_path):
    """A repository that belongs to the reader."""
    folder = tmp_path / "theirs"
    git("init", "--quiet", "--initial-branch=main", folder)
    return folder


@contextmanager
def running(data, **more):
    """Runs a separate cloud, with these variables in its environment."""
    port = free_port()
    process = start(data, port, **more)
    try:
        yield Cloud(data, port)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=10)


def watch_pushes(cloud):
    """Creates a queue that receives the events of pushes, and returns the queue's URL."""
    url, queue = cloud.queue(REPOSITORY, "pushes-of-shells")
    events = cloud.client("events")
    events.put_rule(Name="pushes-of-shells", EventPattern='{"source":["aws.codecommit"]}')
    events.put_targets(Rule="pushes-of-shells", Targets=[{"Id": "queue", "Arn": queue}])
    return url


def commits(cloud, url):
    return [event["detail"]["commitId"] for event in cloud.messages(REPOSITORY, url)]


def test_a_cloud_that_is_started_in_any_shell_is_the_same(tmp_path, theirs):
    (tmp_path / "home" / ".aws").mkdir(parents=True)
    (tmp_path / "home" / ".aws" / "config").write_text("[default]\nregion = eu-west-1\nuse_fips_endpoint = true\n")
    exported = {
        "GIT_DIR": theirs / ".git",
        "GIT_WORK_TREE": theirs,
        "GIT_DEFAULT_HASH": "sha256",
        "HOME": tmp_path / "home",
        "http_proxy": NOWHERE,
        "HTTP_PROXY": NOWHERE,
        "AWS_ACCESS_KEY_ID": "111111111111",
        "AWS_SECRET_ACCESS_KEY": "theirs",
        "AWS_PROFILE": "theirs",
        "AWS_ENDPOINT_URL_SQS": NOWHERE,
        "PYTHONOPTIMIZE": "2",
        "PYTHONWARNINGS": "error",
        "LOG_LEVEL": "ERROR",
        "PERSIST_STATE": "1",
        "LC_ALL": "C",
        "PYTHONUTF8": "0",
        "TZ": "Asia/Tokyo",
        "SEKISHO_CONFIG": "/some/sekisho.toml",
    }
    before = {file: file.read_bytes() for file in theirs.rglob("*") if file.is_file()}
    with running(tmp_path / "data", **{name: str(value) for name, value in exported.items()}) as cloud:
        url = watch_pushes(cloud)
        shop = cloud.repository("shop", tmp_path)
        commit = shop.commit({"日本語.txt": "1"}, "日本語")
        shop.push("main")
        assert commits(cloud, url) == [commit]
        found = cloud.client("codecommit").get_commit(repositoryName="shop", commitId=commit)["commit"]
        assert found["message"] == "日本語\n"
        report = function(cloud, tmp_path)
        given = Path(f"/proc/{report['pid']}/environ").read_bytes().decode().split("\0")
    environment = dict(line.split("=", 1) for line in given if line)
    assert report["config"] == "/some/sekisho.toml"
    assert environment["AWS_CONFIG_FILE"] == "/dev/null"
    # The function has SEKISHO_CONFIG on purpose, and the two keys in its environment are those of its own role.
    own = {"SEKISHO_CONFIG", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
    theirs_there = {name for name in exported.keys() - own if environment.get(name) == str(exported[name])}
    assert theirs_there == set()
    assert {file: file.read_bytes() for file in theirs.rglob("*") if file.is_file()} == before


def test_a_checkout_behind_a_link_and_in_a_folder_with_spaces_works(tmp_path):
    checkout = tmp_path / "check out of 'mine'"
    checkout.symlink_to(ROOT)
    # Python knows its executable by the path that started it, so the hook's path to Python has spaces.
    python = checkout / Path(sys.executable).relative_to(ROOT) if Path(sys.executable).is_relative_to(ROOT) else None
    assert python, f"the tests run with the project's own Python, not {sys.executable}"
    with running(tmp_path / "my data", python=python, package=checkout / "local_cloud") as cloud:
        url = watch_pushes(cloud)
        shop = cloud.repository("shop", tmp_path / "my work")
        assert "check out of" in (cloud.data / "repositories" / "shop.git" / "hooks" / "post-receive").read_text()
        commit = shop.commit({"a": "1"})
        shop.push("main")
        assert commits(cloud, url) == [commit]


def test_a_push_is_seen_with_every_setting_of_the_person_who_pushes(cloud, tmp_path):
    url = watch_pushes(cloud)
    shop = cloud.repository("pushed-by-hand", tmp_path)
    commit = shop.commit({"a": "1"})
    hooks, config, broken = tmp_path / "hooks", tmp_path / "gitconfig", tmp_path / "broken"
    for folder in (hooks, broken):
        folder.mkdir()
    for name in ("pre-receive", "update", "post-receive"):
        (hooks / name).write_text(f"#!/bin/sh\necho {name} >> '{tmp_path}/ran'\nexit 1\n")
        (hooks / name).chmod(0o755)
    config.write_text(f"[core]\n\thooksPath = {hooks}\n[receive]\n\tdenyCurrentBranch = refuse\n")
    (broken / "sitecustomize.py").write_text("raise SystemExit('a module of the reader')\n")
    environ = os.environ | {
        "GIT_CONFIG_GLOBAL": str(config),
        "PYTHONPATH": str(broken),
        "PYTHONHOME": "/nonexistent",
        "http_proxy": NOWHERE,
        "HTTP_PROXY": NOWHERE,
    }
    command = ["git", "-C", shop.folder, "push", "--quiet", "--no-verify", "origin", "main"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert commits(cloud, url) == [commit]
    assert not (tmp_path / "ran").exists(), f"these ran: {(tmp_path / 'ran').read_text()}"


SETTINGS = {
    "a profile": {"AWS_PROFILE": "nobody"},
    "another endpoint": {"AWS_ENDPOINT_URL": NOWHERE, "AWS_ENDPOINT_URL_STS": NOWHERE},
    "a proxy": {"http_proxy": NOWHERE, "HTTP_PROXY": NOWHERE, "ALL_PROXY": NOWHERE},
    "files of their own": {
        "AWS_CONFIG_FILE": "{home}/.aws/config",
        "AWS_SHARED_CREDENTIALS_FILE": "{home}/.aws/config",
    },
    "certificates": {"AWS_CA_BUNDLE": "/nonexistent", "REQUESTS_CA_BUNDLE": "/nonexistent"},
    "a home folder": {"HOME": "{home}"},
    "models": {"AWS_DATA_PATH": "{home}/models"},
    "retries": {"AWS_RETRY_MODE": "none", "AWS_MAX_ATTEMPTS": "none"},
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_the_settings_of_the_sdk_have_no_effect(cloud, tmp_path, monkeypatch, settings):
    home = tmp_path / "home"
    (home / ".aws").mkdir(parents=True)
    (home / ".aws" / "config").write_text(
        f"[default]\nregion = eu-west-1\nmax_attempts = none\nservices = theirs\n"
        f"[services theirs]\nsts =\n  endpoint_url = {NOWHERE}\n"
    )
    (home / "models" / "sts" / "2099-01-01").mkdir(parents=True)
    (home / "models" / "sts" / "2099-01-01" / "service-2.json").write_text("not a model")
    for name, value in settings.items():
        monkeypatch.setenv(name, value.format(home=home))
    # Like the demo, this calls the cloud with a key, a region and an endpoint, in a separate process.
    text = (
        "import boto3, json, sys; client = boto3.client('sts', region_name=sys.argv[1], endpoint_url=sys.argv[2], "
        "aws_access_key_id=sys.argv[3], aws_secret_access_key='root'); "
        "print(json.dumps(client.get_caller_identity()['Account']))"
    )
    called = run("Calling", [sys.executable, "-c", text, REGION, cloud.url, REPOSITORY], tmp_path / "called")
    assert json.loads(called) == REPOSITORY
