"""The files of an empty local cloud with which a person follows docs/deploy.md: profiles, samconfig.toml and variables.

The person has the profiles of three administrators, and a user `me` who may only assume the deploy roles. The deploy
roles, and the profiles that lead to them, are steps of the page.
"""

import json
import re
from typing import TYPE_CHECKING

from tools.layout import ACCOUNTS, ARCHITECTURE, CONFIG, REGION, ROOT, VENV, Places

if TYPE_CHECKING:
    from tools.local_stack.stack import Stack

DEPLOYER = "me"


def write_guide(stack: "Stack") -> None:
    """Creates the user `me`, and writes the files."""
    places = stack.places
    places.guide.mkdir()
    iam = stack.client("repository", "iam")
    iam.create_user(UserName=DEPLOYER)
    statement = {"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": "arn:aws:iam::*:role/sekisho-deploy-*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    iam.put_user_policy(UserName=DEPLOYER, PolicyName="assumes-deploy-roles", PolicyDocument=policy)
    key = iam.create_access_key(UserName=DEPLOYER)["AccessKey"]
    administrators = places.config.read_text().replace("[profile ", "[profile admin-")
    (places.guide / "aws-config").write_text(
        f"{administrators}\n[profile {DEPLOYER}]\nregion = {REGION}\n"
        f"aws_access_key_id = {key['AccessKeyId']}\naws_secret_access_key = {key['SecretAccessKey']}\n"
    )
    # The functions run on this machine, so they are built for its architecture.
    samconfig = re.sub(
        r"^parameter_overrides = \[$",
        f'\\g<0>\n  "Architecture={ARCHITECTURE}",',
        (ROOT / "samconfig.toml").read_text(),
        flags=re.MULTILINE,
    )
    (places.guide / "samconfig.toml").write_text(samconfig)
    (places.guide / "shell").write_text(
        f"export AWS_CONFIG_FILE='{places.guide / 'aws-config'}' AWS_SHARED_CREDENTIALS_FILE=/dev/null\n"
        f"export AWS_ENDPOINT_URL={stack.endpoint}\n"
        f"export SAMCONFIG='{places.guide / 'samconfig.toml'}'\n"
        f"export PATH='{VENV / 'bin'}':\"$PATH\"\n"
    )
    # The functions read this file instead of the layer, so the person's routes must reach them.
    places.sekisho.unlink()
    places.sekisho.symlink_to(CONFIG)


def explain_guide(places: Places) -> None:
    """Prints how a shell reaches the empty cloud."""
    print()
    for name, account in ACCOUNTS.items():
        print(f"  profile admin-{name:<12} account {account}: an administrator")
    print(
        f"""  profile {DEPLOYER:<18} account {ACCOUNTS["repository"]}: arn:aws:iam::{ACCOUNTS["repository"]}:user/{DEPLOYER}

The local cloud is up, and its accounts are empty. In each shell in which you follow docs/deploy.md, run first:
  . {(places.guide / "shell").relative_to(ROOT)}
Profiles go into {(places.guide / "aws-config").relative_to(ROOT)}; repositories are folders in \
{places.repositories.relative_to(ROOT)}.
`make down` ends the cloud."""
    )
