"""An environment in samconfig.toml: its account, duties and parameters, and credentials that belong to that account."""

import os
import re
import shlex
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import boto3
import click
from botocore.exceptions import BotoCoreError, ClientError

from tools.failure import Failure
from tools.layout import ROOT
from tools.operations.credentials import default_keys, session_of

# The variable SAMCONFIG may name another file. The path is absolute, because sam would resolve a relative path from the
# folder of the template.
SAMCONFIG = Path(os.environ.get("SAMCONFIG") or ROOT / "samconfig.toml").absolute()

# The error codes for a region that does not exist or is not enabled.
NO_REGION = {"InvalidClientTokenId", "UnrecognizedClientException", "EndpointConnectionError"}


@dataclass(frozen=True)
class Environment:
    """The settings of one environment in samconfig.toml.

    `repositories` is the name of the environment whose account has the repositories. `asks` is true if sam asks the
    person before it executes the change set.
    """

    name: str
    account: str
    repositories: str
    profile: str
    region: str
    stack: str
    asks: bool
    parameters: dict[str, str]
    protected: bool = True

    @property
    def architecture(self) -> str:
        """The functions' architecture: arm64, the template's default, unless a parameter sets another."""
        return self.parameters.get("Architecture", "arm64")

    def does(self, duty: str) -> bool:
        """Whether the account has the duty: HostsRepositories, HostsPipelines or GrantsAccess."""
        return self.parameters.get(duty) == "true"

    def session(self) -> boto3.Session:
        """A session with the profile's credentials; fails if they belong to another account."""
        try:
            session = session_of(self.profile, self.region)
            found = session.client("sts").get_caller_identity()
        except (BotoCoreError, ClientError) as error:
            # A region does not accept the credentials of an account in which the region is not enabled.
            code = error.response["Error"]["Code"] if isinstance(error, ClientError) else type(error).__name__
            region = f", or enable region {self.region} in the account" if code in NO_REGION else ""
            problem = default_keys(self.profile)
            raise Failure(
                f"Profile {self.profile} of environment {self.name} gives no credentials ({error}): "
                f"correct it in ~/.aws/config, or log in{region}.{f' Note: {problem}.' if problem else ''}"
            ) from None
        if found["Account"] != self.account:
            raise Failure(
                f"Profile {self.profile} leads to account {found['Account']} (as {found['Arn']}), but environment "
                f"{self.name} is account {self.account}: correct the profile, or `account` under [{self.name}.sekisho] "
                f"in {SAMCONFIG.name}."
            )
        return session


def environments() -> dict[str, Environment]:
    """All environments in samconfig.toml, by name. Each section [NAME.sekisho] makes NAME an environment."""
    try:
        document = tomllib.loads(SAMCONFIG.read_text())
    except (OSError, ValueError) as error:
        raise Failure(f"{SAMCONFIG} can't be read: {error}") from None
    found = {
        name: _environment(name, sections)
        for name, sections in document.items()
        if isinstance(sections, dict) and "sekisho" in sections
    }
    for one in found.values():
        if one.repositories not in found:
            raise Failure(
                f"{SAMCONFIG.name}, [{one.name}.sekisho]: repositories = {one.repositories!r} is not an environment of "
                f"this file. Use the environment whose account has the repositories: {', '.join(found)}."
            )
    return found


def environment(name: str, profile: str | None = None) -> Environment:
    """The environment with this name; with another profile, if one is given."""
    known = environments()
    if name not in known:
        raise Failure(f"{SAMCONFIG.name} has no environment {name!r}: use one of {', '.join(known)}, or add it.")
    return replace(known[name], profile=profile) if profile else known[name]


def _environment(name: str, sections: dict[str, Any]) -> Environment:
    ours = _section(name, sections, "sekisho")
    # As in sam, the settings for `deploy` override the settings for all commands.
    settings = _section(name, sections, "global") | _section(name, sections, "deploy")
    account = _text(name, "sekisho", ours, "account", "111111111111")
    if not re.fullmatch(r"\d{12}", account):
        raise Failure(f"{SAMCONFIG.name}, [{name}.sekisho]: account = {account!r} is not an account id of 12 digits.")
    return Environment(
        name=name,
        account=account,
        repositories=_text(name, "sekisho", ours, "repositories", "repository"),
        profile=_text(name, "global.parameters", settings, "profile", name),
        region=_text(name, "global.parameters", settings, "region", "ap-northeast-1"),
        stack=_text(name, "global.parameters", settings, "stack_name", "sekisho"),
        asks=_truth(name, settings, "confirm_changeset"),
        parameters=_parameters(name, settings.get("parameter_overrides")),
        protected=ours.get("termination_protection") is not False,
    )


def _text(name: str, section: str, values: Mapping[str, Any], key: str, example: str) -> str:
    value = values.get(key)
    if not isinstance(value, str) or not value:
        problem = f"lacks `{key}`" if value is None else f"has {key} = {value!r}, which is not a text"
        raise Failure(f'{SAMCONFIG.name}, [{name}.{section}] {problem}: write {key} = "{example}".')
    return value


def _truth(name: str, values: Mapping[str, Any], key: str) -> bool:
    """A setting that is true or false; false if absent. Like sam, this also accepts a text such as "yes"."""
    value = values.get(key, False)
    try:
        return bool(click.BOOL.convert(value, None, None))
    except (click.BadParameter, AttributeError, TypeError):
        raise Failure(
            f"{SAMCONFIG.name}, [{name}.deploy.parameters]: {key} = {value!r} is neither true nor false: "
            f"write {key} = true."
        ) from None


def _section(name: str, sections: dict[str, Any], kind: str) -> dict[str, Any]:
    """The section [ENV.sekisho], or the parameters that sam reads from [ENV.global] and [ENV.deploy]."""
    path = [name, kind] if kind == "sekisho" else [name, kind, "parameters"]
    found: Any = sections
    for key in path[1:]:
        found = found.get(key) if isinstance(found, dict) else None
    if not isinstance(found, dict):
        raise Failure(
            f"{SAMCONFIG.name} has no section [{'.'.join(path)}], which environment {name} needs: "
            "compare with another environment."
        )
    return found


def _parameters(name: str, given: object) -> dict[str, str]:
    """The parameters in `parameter_overrides`: a list, or the single text that `sam deploy --guided` writes."""
    where = f"{SAMCONFIG.name}, [{name}.deploy.parameters]: parameter_overrides"
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        problem = "is missing" if given is None else "can not be read"
        raise Failure(f'{where} {problem}: write a list such as ["HostsPipelines=true"].')
    found = {}
    for text in texts:
        try:
            words = shlex.split(text)
        except ValueError as error:
            raise Failure(f"{where}: {text!r} can't be read ({error}).") from None
        for word in words:
            key, equals, value = word.partition("=")
            if not equals or not re.fullmatch(r"[A-Za-z0-9]+", key) or key == "ParameterKey":
                raise Failure(f"{where}: {word!r} in {text!r} is not Name=value (a value with blanks needs quotes).")
            found[key] = value
        if re.search(r"=(\s|$)", text):
            raise Failure(
                f'{where}: {text!r} has an empty value, which sam refuses: leave the parameter out, or write Name="".'
            )
    return found
