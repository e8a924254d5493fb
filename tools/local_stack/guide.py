"""The files of an empty local cloud with which a person follows docs/deploy.md: a home folder and samconfig.toml.

The person has the profiles of three administrators, and a user `me` who may only assume the deploy roles. The deploy
roles, and the profiles that lead to them, are steps of the page. The home folder is separate, because the AWS CLI and
sam keep the credentials of assumed roles there, and git keeps its settings there.
"""

import json
import re
from shlex import quote
from typing import TYPE_CHECKING

from tools.git import DEVELOPER, EMAIL
from tools.layout import ARCHITECTURE, CONFIG, REGION, REPOSITORY, ROOT, VENV

if TYPE_CHECKING:
    from tools.local_stack.stack import Stack

DEPLOYER = "me"


def write_guide(stack: "Stack") -> None:
    """Creates the user `me`, and writes the files."""
    places = stack.places
    aws = places.guide / "home" / ".aws"
    aws.mkdir(parents=True)
    iam = stack.client("repository", "iam")
    iam.create_user(UserName=DEPLOYER)
    statement = {"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": "arn:aws:iam::*:role/sekisho-deploy-*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    iam.put_user_policy(UserName=DEPLOYER, PolicyName="assumes-deploy-roles", PolicyDocument=policy)
    key = iam.create_access_key(UserName=DEPLOYER)["AccessKey"]
    administrators = places.config.read_text().replace("[profile ", "[profile admin-")
    (aws / "config").write_text(
        f"{administrators}\n[profile {DEPLOYER}]\nregion = {REGION}\n"
        f"aws_access_key_id = {key['AccessKeyId']}\naws_secret_access_key = {key['SecretAccessKey']}\n"
    )
    # The functions run on this machine, so they are built for its architecture.
    samconfig = re.sub(
        r"^parameter_overrides = \[$",
        f'\\g<0>\n  "Architecture={ARCHITECTURE}",',
        stack.samconfig.read_text(),
        flags=re.MULTILINE,
    )
    (places.guide / "samconfig.toml").write_text(samconfig)
    # The local cloud does not serve git's own protocol, so git's configuration maps the address to the folder.
    address = f"https://git-codecommit.{REGION}.amazonaws.com/v1/repos/{REPOSITORY}"
    (places.guide / "home" / ".gitconfig").write_text(
        f'[url "{places.repositories / REPOSITORY}.git"]\n\tinsteadOf = {address}\n'
        f"[user]\n\tname = {DEVELOPER}\n\temail = {EMAIL}\n"
    )
    (places.guide / "shell").write_text(_shell(stack))
    # The functions read this file instead of the layer, so the person's routes must reach them.
    places.sekisho.unlink()
    places.sekisho.symlink_to(CONFIG)


def _shell(stack: "Stack") -> str:
    """The commands that make a shell use the local cloud and the separate home folder."""
    guide = stack.places.guide
    return f"""\
unset $(env | sed -n 's/^\\(AWS_[A-Z0-9_]*\\)=.*/\\1/p') GIT_CONFIG_GLOBAL XDG_CONFIG_HOME
export AWS_ENDPOINT_URL={stack.endpoint}
export SAM_CLI_TELEMETRY=0
export SAMCONFIG={quote(str(guide / "samconfig.toml"))}
export PATH={quote(str(VENV / "bin"))}:"$PATH"
# The build keeps its folders, which are in the person's own home folder. In other folders, it would begin anew.
export CARGO_HOME="${{CARGO_HOME:-$HOME/.cargo}}" RUSTUP_HOME="${{RUSTUP_HOME:-$HOME/.rustup}}"
export XDG_CACHE_HOME="${{XDG_CACHE_HOME:-$HOME/.cache}}"
export HOME={quote(str(guide / "home"))}
"""


def explain_guide(stack: "Stack") -> None:
    """Prints how a shell reaches the empty cloud."""
    places = stack.places
    print()
    for name, account in stack.accounts.items():
        print(f"  profile admin-{name:<12} account {account}: an administrator")
    account = stack.accounts["repository"]
    print(
        f"""  profile {DEPLOYER:<18} account {account}: arn:aws:iam::{account}:user/{DEPLOYER}

The local cloud is up, and its accounts are empty. In each shell in which you follow docs/deploy.md, run first:
  . {(places.guide / "shell").relative_to(ROOT)}
The shell then has its own home folder, {(places.guide / "home").relative_to(ROOT)}: ~/.aws/config has these profiles.
`make down` ends the cloud."""
    )
