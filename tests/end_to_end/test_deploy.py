"""`make deploy` with the real build and deployment: its question, and the effect of each answer."""

import os
import pty
import re
import subprocess

import pytest

from tests.template import deployed
from tools.build import environment
from tools.layout import ACCOUNTS, ARCHITECTURE, FUNCTIONS, REGION, ROOT, STACK

ENV, ACCOUNT = "local-test", ACCOUNTS["test"]


@pytest.fixture
def cloud(tmp_path):
    """An empty cloud, and a profile for the account."""
    with deployed.cloud() as cloud:
        cloud.config = tmp_path / "aws"
        cloud.config.write_text(
            f"[profile test]\nregion = {REGION}\nendpoint_url = {cloud.endpoint}\n"
            f"aws_access_key_id = {ACCOUNT}\naws_secret_access_key = root\n"
        )
        yield cloud


@pytest.fixture
def samconfig(tmp_path):
    """A function that writes a samconfig.toml for this machine's architecture, which has been built already.

    The account hosts pipelines only. With `asks`, `make deploy` shows the change set and asks before it deploys.
    """

    def write(asks):
        head = f"[{ENV}.deploy.parameters]\n"
        before, found, section = (ROOT / "samconfig.toml").read_text().partition(head)
        assert found
        section = section.replace(
            "parameter_overrides = [\n", f'parameter_overrides = [\n  "Architecture={ARCHITECTURE}",\n', 1
        )
        # A hub would need its door before the second deployment.
        section = re.sub(r'  "(GrantsAccess|HubAccountId)=.*\n', "", section, count=2)
        file = tmp_path / f"asks-{asks}.toml"
        file.write_text(before + head + ("confirm_changeset = true\n" if asks else "") + section)
        return file

    return write


def make_deploy(cloud, samconfig, answer=None):
    """Runs `make deploy`, on a terminal if an answer is given, and returns its exit code and its output."""
    env = environment(AWS_CONFIG_FILE=str(cloud.config), AWS_SHARED_CREDENTIALS_FILE="/dev/null")
    for name in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS"):
        env.pop(name, None)
    ours, theirs = pty.openpty()
    try:
        os.write(ours, f"{answer}\n".encode())
        done = subprocess.run(
            ["make", "deploy", f"ENV={ENV}", f"SAMCONFIG={samconfig}"],
            cwd=ROOT,
            env=env,
            stdin=subprocess.DEVNULL if answer is None else theirs,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=1800,
            check=False,
        )
    finally:
        os.close(ours)
        os.close(theirs)
    return done.returncode, done.stdout


def stack_status(cloud):
    return cloud.client(ACCOUNT, "cloudformation").describe_stacks(StackName=STACK)["Stacks"][0]["StackStatus"]


def functions(cloud):
    return {
        one["FunctionName"]: one["Architectures"]
        for one in cloud.client(ACCOUNT, "lambda").list_functions()["Functions"]
    }


def test_it_deploys_the_build_and_prints_the_next_steps(cloud, samconfig):
    code, output = make_deploy(cloud, samconfig(asks=False))
    assert code == 0, output
    assert stack_status(cloud) == "CREATE_COMPLETE"
    assert functions(cloud) == {
        "sekisho-pipeline-starter": [ARCHITECTURE],
        "sekisho-artifact-checker": [ARCHITECTURE],
        "sekisho-artifact-sweeper": [ARCHITECTURE],
    }
    assert all((ROOT / ".aws-sam" / ENV / name / "bootstrap").is_file() for name in FUNCTIONS)
    assert "make doctor ENV=local-test" in output.partition("\nNext:\n")[2], output

    code, output = make_deploy(cloud, samconfig(asks=True), "y")
    assert (code, "Deploy this changeset?" in output) == (0, False), "nothing to change, nothing to ask\n" + output
    assert "\nNext:\n" in output, output


def test_it_shows_the_change_set_and_follows_the_answer(cloud, samconfig):
    code, output = make_deploy(cloud, samconfig(asks=True), "n")
    assert code != 0
    assert re.search(r"\+ Add\s+PipelineStarter\s", output.partition("Deploy this changeset?")[0]), output
    assert f"Not deployed. Stack {STACK} of account {ACCOUNT} is unchanged: you did not answer y." in output, output
    assert "\nNext:\n" not in output
    assert (stack_status(cloud), functions(cloud)) == ("REVIEW_IN_PROGRESS", {})

    code, output = make_deploy(cloud, samconfig(asks=True), "y")
    assert (code, stack_status(cloud)) == (0, "CREATE_COMPLETE"), output
    assert "\nNext:\n" in output, output


def test_it_fails_before_the_build_if_nobody_can_answer(cloud, samconfig):
    code, output = make_deploy(cloud, samconfig(asks=True))
    assert code != 0
    assert (
        "Not deployed. Environment local-test asks before it deploys (confirm_changeset), and nobody can answer here"
        in output
    )
    assert "Building" not in output
