"""The commands in docs/deploy.md work as written: the ten minutes in the page's order, and the workstation.

The commands, their order and their values come from the page, so that a wrong page fails.
"""

import os
import pty
import re
import subprocess
import time

import pytest

from tests.local_cloud.accounts import PRODUCTION
from tools.git import git
from tools.layout import ACCOUNTS, REGION, ROOT, tool
from tools.local_stack.stack import temporary_stack
from tools.surroundings import clean_environment

PAGE = (ROOT / "docs" / "deploy.md").read_text()
SECONDS = 60


def section(title):
    """Returns the text of a section of docs/deploy.md."""
    _, found, rest = PAGE.partition(f"### {title}\n")
    assert found, f"docs/deploy.md has no section {title!r}"
    return re.split(r"^##", rest, maxsplit=1, flags=re.MULTILINE)[0]


def blocks(text):
    """Returns the blocks of shell commands in a section."""
    return re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def rows(text):
    """Returns the rows of the tables in a text, as lists of cells."""
    lines = re.findall(r"^\| (.+) \|$", text, re.MULTILINE)
    return [line.split(" | ") for line in lines]


def commands(cell):
    """Returns the commands in a cell of a table."""
    return re.findall(r"`((?:aws|make|git) [^`]*)`", cell)


@pytest.fixture
def shell(cloud, tmp_path):
    """A function that runs commands in a shell like a person's, with the project's folders in the working folder."""
    (tmp_path / "bootstrap").symlink_to(ROOT / "bootstrap")

    def shell(account, text):
        keys = cloud.administrators[account]
        env = clean_environment(
            HOME=str(tmp_path),
            AWS_ACCESS_KEY_ID=keys["aws_access_key_id"],
            AWS_SECRET_ACCESS_KEY=keys["aws_secret_access_key"],
            AWS_ENDPOINT_URL=cloud.url,
        )
        env["PATH"] = f"{tool('aws').parent}:{env['PATH']}"
        words = ["sh", "-euc", text]
        done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return shell


class Reader:
    """A person who follows the page on an empty local stack, in the shell that the page names."""

    def __init__(self, stack, clone):
        self.stack, self.clone = stack, clone
        self.home = stack.places.guide / "home"
        # The page's shell, but for a stack that is not in the folder of `make up`.
        (enter, *_) = blocks(section("On the local stack"))
        self.enter = enter.replace(".local", str(stack.places.folder))
        assert self.enter != enter
        # The values of the table of the section, by the numbers of the steps.
        self.values = {step: text for step, *text in rows(section("On the local stack"))}

    def value(self, step, name):
        """Returns a value that the page gives for a step on the local stack."""
        found = re.search(rf"\b{name}=(\S+?)[ `]", self.values[step][0])
        assert found, f"docs/deploy.md gives no {name} for step {step} on the local stack"
        return found[1]

    def run(self, text):
        """Runs commands of the page in a terminal, answers y to a question, and returns the output."""
        text = text.replace("../shop", str(self.clone))
        assert "…" not in text, f"the page does not say what to write for … in: {text}"
        ours, theirs = pty.openpty()
        try:
            os.write(ours, b"y\n")
            done = subprocess.run(
                ["sh", "-euc", self.enter + text],
                cwd=ROOT,
                env=clean_environment(),
                stdin=theirs,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=600,
                check=False,
            )
        finally:
            os.close(ours)
            os.close(theirs)
        assert done.returncode == 0, f"{text}\n{done.stdout}"
        return done.stdout

    def as_administrator(self, command, account):
        """Runs a command of an administrator, in one account."""
        assert f"admin-{account}" in self.values["0, 1 and 6"][0]
        return self.run(f"{command.replace('--region …', f'--region {REGION}')} --profile admin-{account}")

    def add_profiles(self):
        """Appends the profile of the page's example for each account."""
        (example,) = re.findall(r"^```ini\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
        assert "production" in example and PRODUCTION in example
        for name, account in ACCOUNTS.items():
            with (self.home / ".aws" / "config").open("a") as file:
                file.write("\n" + example.replace("production", name).replace(PRODUCTION, account))


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    folder = tmp_path_factory.mktemp("guide")
    with temporary_stack(folder / "local", empty=True) as stack:
        yield Reader(stack, folder / "shop")


def test_the_ten_minutes_are_followed_in_the_pages_order(reader):
    steps = [row for row in rows(PAGE) if re.match(r"\d\. ", row[0])]
    assert [step[0][0] for step in steps] == list("01234567"), "the walk below knows these steps"
    create, bootstrap, _, _, deploy, check, prepare, _ = [commands(step[3]) for step in steps]
    (create,) = [create[0].replace("…", REGION, 1)]
    reader.as_administrator(create, "repository")

    (bootstrap,) = bootstrap
    for name in ("DeployerAccountId", "DeployerArns"):
        bootstrap = bootstrap.replace(f"{name}=…", f"{name}={reader.value('1', name)}")
    for account in ACCOUNTS:
        reader.as_administrator(bootstrap, account)

    reader.add_profiles()
    for account in ACCOUNTS:
        arn = reader.run(f"aws sts get-caller-identity --profile {account} --query Arn --output text")
        assert f":{ACCOUNTS[account]}:assumed-role/sekisho-deploy-{REGION}/" in arn

    assert len(deploy) == 3, deploy
    for command in deploy:
        reader.run(command)

    assert len(check) == 2, check
    for command in check:
        output = reader.run(command)
        assert " holds " in output and not re.search(r"UNCLEAR|BROKEN", output), output

    (create_user,) = commands(reader.values["6"][0])
    user = create_user.partition("--user-name ")[2].split()[0]
    reader.run(create_user)
    (prepare,) = prepare
    reader.run(prepare.replace("USER=…", f"USER={user}").replace("PROFILE=…", "PROFILE=admin-production"))

    the_first_push_starts_the_pipelines_at_its_commit(reader)


def the_first_push_starts_the_pipelines_at_its_commit(reader):
    """Follows the section about the first push, and waits for an execution of each pipeline."""
    clone, push = blocks(section("The repository and the first push"))
    reader.run(clone)
    reader.run(push)
    head = git("-C", reader.clone, "rev-parse", "HEAD")
    folder = reader.stack.places.repositories / "shop.git"
    assert "api/template.yaml" in git(f"--git-dir={folder}", "ls-tree", "-r", "--name-only", "main").split()
    settings = (reader.home / ".gitconfig").read_text()
    assert "codecommit credential-helper" in settings and "UseHttpPath = true" in settings
    for account in ("test", "production"):
        deadline = time.monotonic() + SECONDS
        while head not in (found := revisions(reader.stack, account)):
            assert time.monotonic() < deadline, f"no execution of the pipeline in {account} has {head}: {found}"
            time.sleep(0.2)


def revisions(stack, account):
    """Returns the commits of the executions of an account's pipeline."""
    pages = stack.client(account, "codepipeline").list_pipeline_executions(pipelineName="shop")
    executions = pages["pipelineExecutionSummaries"]
    return [revision["revisionId"] for one in executions for revision in one.get("sourceRevisions", [])]


def test_the_workstation_is_deployed_and_prints_the_text_to_paste(shell):
    (deploy,) = blocks(section("From an EC2 instance"))
    printed = shell(PRODUCTION, deploy)
    assert f"arn:aws:iam::{PRODUCTION}:role/sekisho-workstation-{REGION}" in printed
    assert "[profile sekisho-111111111111]" in printed
    outputs = re.findall(r"^\| `(\w+)` \|", section("From an EC2 instance"), re.MULTILINE)
    assert outputs and [one for one in outputs if one not in printed] == []
