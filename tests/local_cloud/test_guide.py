"""The commands in docs/deploy.md work as written: the repository, the first push and the workstation."""

import re
import subprocess

import pytest

from tests.local_cloud.accounts import PRODUCTION, REPOSITORY
from tools.git import DEVELOPER, EMAIL
from tools.layout import REGION, ROOT, tool
from tools.surroundings import clean_environment

PAGE = (ROOT / "docs" / "deploy.md").read_text()


def section(title):
    """Returns the text of a section of docs/deploy.md."""
    _, found, rest = PAGE.partition(f"### {title}\n")
    assert found, f"docs/deploy.md has no section {title!r}"
    return re.split(r"^##", rest, maxsplit=1, flags=re.MULTILINE)[0]


def blocks(text):
    """Returns the blocks of shell commands in a section."""
    return re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.fixture
def shell(cloud, tmp_path):
    """A function that runs commands in a shell like a person's, with the project's folders in the working folder."""
    for name in ("examples", "bootstrap"):
        (tmp_path / name).symlink_to(ROOT / name)

    def shell(account, commands, **variables):
        keys = cloud.administrators[account]
        env = clean_environment(
            HOME=str(tmp_path),
            AWS_ACCESS_KEY_ID=keys["aws_access_key_id"],
            AWS_SECRET_ACCESS_KEY=keys["aws_secret_access_key"],
            AWS_ENDPOINT_URL=cloud.url,
            GIT_CONFIG_GLOBAL=str(tmp_path / "gitconfig"),
            **variables,
        )
        env["PATH"] = f"{tool('aws').parent}:{env['PATH']}"
        words = ["sh", "-euc", commands]
        done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return shell


def test_the_repository_is_created_and_the_first_push_arrives(cloud, shell, tmp_path):
    text = section("The repository and the first push")
    (create,) = re.findall(r"`(aws codecommit create-repository [^`…]*)`", text)
    # Other tests of this cloud may have created the repository already.
    cloud.client("codecommit").delete_repository(repositoryName="shop")
    shell(REPOSITORY, create)
    clone, push = blocks(text)
    # The local cloud does not serve Git's own protocol, so Git's configuration maps the address to a folder.
    folder = cloud.data / "repositories" / "shop.git"
    (tmp_path / "gitconfig").write_text(
        f'[url "{folder}"]\n\tinsteadOf = https://git-codecommit.{REGION}.amazonaws.com/v1/repos/shop\n'
        f"[user]\n\tname = {DEVELOPER}\n\temail = {EMAIL}\n"
    )
    shell(REPOSITORY, clone)
    shell(REPOSITORY, push)
    head = cloud.client("codecommit").get_branch(repositoryName="shop", branchName="main")["branch"]["commitId"]
    files = subprocess.run(
        ["git", f"--git-dir={folder}", "ls-tree", "-r", "--name-only", head], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "api/template.yaml" in files
    cloud.client("codecommit").delete_repository(repositoryName="shop")
    settings = (tmp_path / "gitconfig").read_text()
    assert "codecommit credential-helper" in settings and "UseHttpPath = true" in settings


def test_the_workstation_is_deployed_and_prints_the_text_to_paste(shell):
    (deploy,) = blocks(section("From an EC2 instance"))
    printed = shell(PRODUCTION, deploy)
    assert f"arn:aws:iam::{PRODUCTION}:role/sekisho-workstation-{REGION}" in printed
    assert "[profile sekisho-111111111111]" in printed
    outputs = re.findall(r"^\| `(\w+)` \|", section("From an EC2 instance"), re.MULTILINE)
    assert outputs and [one for one in outputs if one not in printed] == []
