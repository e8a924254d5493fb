"""An environment of samconfig.toml: which account it is, what it does, and credentials that have been checked to be of it."""

import os
import re
import shlex
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path

import boto3
from botocore.exceptions import BotoCoreError, ClientError

ROOT = Path(__file__).resolve().parents[1]
# SAMCONFIG=… names another file. Absolute: sam looks for a relative one beside the template.
SAMCONFIG = Path(os.environ.get("SAMCONFIG") or ROOT / "samconfig.toml").absolute()


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
    asks: bool
    parameters: dict

    @property
    def architecture(self):
        """What the functions are built for: the template's default where nothing is said."""
        return self.parameters.get("Architecture", "arm64")

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
                          f"{self.name} is account {self.account}: mend the profile, or `account` under [{self.name}.sekisho] in {SAMCONFIG.name}.")
        return session


def environments():
    """All environments of samconfig.toml by name: what has a section [ENV.sekisho]."""
    try:
        document = tomllib.loads(SAMCONFIG.read_text())
    except (OSError, ValueError) as error:
        raise Refused(f"{SAMCONFIG} can't be read: {error}") from None
    found = {name: _environment(name, sections) for name, sections in document.items() if isinstance(sections, dict) and "sekisho" in sections}
    for one in found.values():
        if one.repositories not in found:
            raise Refused(f"{SAMCONFIG.name}, [{one.name}.sekisho]: repositories = {one.repositories!r} is no environment of this file. "
                          f"Use one of {', '.join(found)}: the one whose account has the repositories.")
    return found


def environment(name, profile=None):
    """The environment of that name; with a profile, by its credentials, checked like the environment's own."""
    known = environments()
    if name not in known:
        raise Refused(f"{SAMCONFIG.name} has no environment {name!r}: use one of {', '.join(known)}, or add it.")
    return replace(known[name], profile=profile) if profile else known[name]


def _environment(name, sections):
    ours, common, deploy = _section(name, sections, "sekisho"), _section(name, sections, "global"), _section(name, sections, "deploy")
    # As sam does: what a command's own section says comes before what is said for all.
    settings = common | deploy

    def text(section, values, key, example):
        value = values.get(key)
        if not isinstance(value, str) or not value:
            what = f"lacks `{key}`" if value is None else f"has {key} = {value!r}, which is no text"
            raise Refused(f"{SAMCONFIG.name}, [{name}.{section}] {what}: write {key} = \"{example}\".")
        return value

    account = text("sekisho", ours, "account", "111111111111")
    if not re.fullmatch(r"\d{12}", account):
        raise Refused(f"{SAMCONFIG.name}, [{name}.sekisho]: account = {account!r} is no account id of 12 digits.")
    return Environment(
        name, account, text("sekisho", ours, "repositories", "repository"), text("global.parameters", settings, "profile", name),
        text("global.parameters", settings, "region", "ap-northeast-1"), text("global.parameters", settings, "stack_name", "sekisho"),
        settings.get("confirm_changeset") is True, _parameters(name, settings.get("parameter_overrides")))


def _section(name, sections, what):
    """[ENV.sekisho], or the parameters that sam reads of [ENV.global] and [ENV.deploy]."""
    path, found = [name, what] if what == "sekisho" else [name, what, "parameters"], sections
    for key in path[1:]:
        found = found.get(key) if isinstance(found, dict) else None
    if not isinstance(found, dict):
        raise Refused(f"{SAMCONFIG.name} has no section [{'.'.join(path)}], which environment {name} needs: see another environment's.")
    return found


def _parameters(name, given):
    """parameter_overrides: a list, or the one text that `sam deploy --guided` writes."""
    where = f"{SAMCONFIG.name}, [{name}.deploy.parameters]: parameter_overrides"
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not all(isinstance(one, str) for one in texts):
        raise Refused(f"{where} {'is missing' if given is None else 'can not be read'}: write a list such as [\"HostsPipelines=true\"].")
    found = {}
    for one in texts:
        try:
            words = shlex.split(one)
        except ValueError as error:
            raise Refused(f"{where}: {one!r} can't be read ({error}).") from None
        for word in words:
            key, equals, value = word.partition("=")
            if not equals or not re.fullmatch(r"[A-Za-z0-9]+", key) or key == "ParameterKey":
                raise Refused(f"{where}: {word!r} in {one!r} is no Name=value (a value with blanks goes in quotes).")
            found[key] = value
        if re.search(r"=(\s|$)", one):
            raise Refused(f"{where}: {one!r} has an empty value, which sam refuses: leave the parameter out, or write Name=\"\".")
    return found
