"""An environment of samconfig.toml: which account it is, what it does, and credentials that have been checked to be of it."""

import tomllib
from dataclasses import dataclass, replace
from pathlib import Path

import boto3
from botocore.exceptions import BotoCoreError, ClientError

ROOT = Path(__file__).resolve().parents[1]
SAMCONFIG = ROOT / "samconfig.toml"


class Refused(Exception):
    """What is wrong, and what to do."""


@dataclass(frozen=True)
class Environment:
    """What samconfig.toml says of an account."""

    name: str
    account: str
    repositories: str
    profile: str
    region: str
    stack: str
    parameters: dict

    def does(self, duty):
        """Whether the account has the duty: HostsRepositories, HostsPipelines or GrantsAccess."""
        return self.parameters.get(duty) == "true"

    def session(self):
        """Credentials of the profile; refused where they are another account's."""
        try:
            session = boto3.Session(profile_name=self.profile, region_name=self.region)
            found = session.client("sts").get_caller_identity()
        except (BotoCoreError, ClientError) as error:
            raise Refused(f"Profile {self.profile} of environment {self.name} gives no credentials ({error}): "
                          f"mend it in ~/.aws/config, or log in.") from None
        if found["Account"] != self.account:
            raise Refused(f"Profile {self.profile} leads to account {found['Account']} (as {found['Arn']}), but environment "
                          f"{self.name} is account {self.account}: mend the profile, or `account` under [{self.name}.sekisho] in samconfig.toml.")
        return session


def environments():
    """All environments of samconfig.toml by name."""
    found = {}
    for name, sections in tomllib.loads(SAMCONFIG.read_text()).items():
        if isinstance(sections, dict) and "sekisho" in sections:
            ours, settings = sections["sekisho"], sections["global"]["parameters"]
            given = sections["deploy"]["parameters"]["parameter_overrides"]
            found[name] = Environment(
                name, ours["account"], ours["repositories"], settings["profile"], settings["region"], settings["stack_name"],
                dict(one.split("=", 1) for one in given))
    return found


def environment(name, profile=None):
    """The environment of that name; with a profile, by its credentials, checked like the environment's own."""
    known = environments()
    if name not in known:
        raise Refused(f"samconfig.toml has no environment {name!r}: use one of {', '.join(known)}, or add it.")
    return replace(known[name], profile=profile) if profile else known[name]
