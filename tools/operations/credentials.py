"""Sessions of AWS profiles, for which a person enters an MFA code only once.

One code is enough for all roles of a device, and also for later commands. The AWS CLI and sam keep the credentials of
assumed roles in two different folders. Both derive a file's name from the request, as botocore does. The sessions of
this module read and write the files in both folders. So while the credentials are valid, neither this project's
commands nor the AWS CLI nor sam ask for another code. A profile without an MFA device needs no cache and gets none.
"""

import getpass
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import botocore.session
from botocore.exceptions import ClientError
from botocore.utils import JSONFileCache

PROMPT = "Enter MFA code for "
# The duration of the session with MFA, in seconds. STS's minimum is enough, because only this command uses the session.
SECONDS = 900


class CredentialCache:
    """Combines the caches of the AWS CLI and of sam."""

    def __init__(self, home: Path) -> None:
        self.folders = [JSONFileCache(str(home / ".aws" / tool / "cache")) for tool in ("cli", "boto")]

    def __contains__(self, key: str) -> bool:
        return any(key in folder for folder in self.folders)

    def __getitem__(self, key: str) -> Any:
        # One folder may have older credentials than the other, so this returns the credentials that end last.
        return max((one[key] for one in self.folders if key in one), key=lambda one: one["Credentials"]["Expiration"])

    def __setitem__(self, key: str, value: Any) -> None:
        for folder in self.folders:
            folder[key] = value

    def __delitem__(self, key: str) -> None:
        for folder in self.folders:
            if key in folder:
                del folder[key]


class SecondFactor:
    """Assumes all roles of an MFA device with one code.

    AWS accepts each code only once. If each role needed a code, the person would have to wait for a new code before the
    second role. Therefore the code is given to GetSessionToken, and the roles are assumed with that session.
    """

    def __init__(self) -> None:
        self.sessions: dict[str, dict[str, str]] = {}

    def prompt(self, text: str) -> str:
        """Asks for a code, and returns it; returns an empty text if the device already has a session with MFA."""
        serial = text.removeprefix(PROMPT).rstrip(": ")
        return "" if serial in self.sessions else getpass.getpass(text)

    def wrap(self, create: Callable[..., Any]) -> Callable[..., Any]:
        """Wraps botocore's creator of STS clients: the new clients assume roles with the session of the device."""

        def create_client(service: str, **source: Any) -> Any:
            return _Assumer(self, create, service, source)

        return create_client


class _Assumer:
    """Stands in for an STS client, of which botocore calls only `assume_role`."""

    def __init__(self, factor: SecondFactor, create: Callable[..., Any], service: str, source: dict[str, Any]) -> None:
        self.factor, self.create, self.service, self.source = factor, create, service, source

    def assume_role(self, **request: Any) -> Any:
        """Assumes the role, with the device's session if the request names a device; returns AWS's answer."""
        serial = request.get("SerialNumber")
        if serial is None or self.source.get("aws_session_token"):
            return self.create(self.service, **self.source).assume_role(**request)
        if serial not in self.factor.sessions:
            try:
                self.factor.sessions[serial] = self._session(serial, request["TokenCode"])
            except ClientError:
                # A policy may deny GetSessionToken, but allow AssumeRole with the code. If the code is wrong, this call
                # fails, too, with AWS's own message.
                return self.create(self.service, **self.source).assume_role(**request)
        without = {key: value for key, value in request.items() if key not in ("SerialNumber", "TokenCode")}
        return self.create(self.service, **self.factor.sessions[serial]).assume_role(**without)

    def _session(self, serial: str, code: str) -> dict[str, str]:
        sts = self.create(self.service, **self.source)
        given = sts.get_session_token(SerialNumber=serial, TokenCode=code, DurationSeconds=SECONDS)["Credentials"]
        return {
            "aws_access_key_id": given["AccessKeyId"],
            "aws_secret_access_key": given["SecretAccessKey"],
            "aws_session_token": given["SessionToken"],
        }


# One object for the whole command, because the command may use the profiles of several accounts.
_FACTOR = SecondFactor()


def session_of(profile: str, region: str) -> boto3.Session:
    """A session of the profile."""
    inner = botocore.session.Session(profile=profile)
    chain: Any = inner.get_component("credential_provider")
    if _has_device(inner.full_config["profiles"], profile):
        provider = chain.get_provider("assume-role")
        provider.cache = CredentialCache(Path.home())
        # botocore has no public way to set these two attributes.
        provider._client_creator = _FACTOR.wrap(provider._client_creator)
        provider._prompter = _FACTOR.prompt
    return boto3.Session(botocore_session=inner, region_name=region)


def _has_device(profiles: dict[str, dict[str, str]], name: str) -> bool:
    """Whether the profile, or a profile from which its credentials come, names an MFA device."""
    return any("mfa_serial" in profiles[one] for one in _sources(profiles, name))


def _sources(profiles: dict[str, dict[str, str]], name: str | None) -> list[str]:
    """The profile, and the profiles from which its credentials come (`source_profile`)."""
    found: list[str] = []
    while name and name in profiles and name not in found:
        found.append(name)
        name = profiles[name].get("source_profile")
    return found


def default_keys(profile: str) -> str | None:
    """The problem with access keys under [default] for somebody on an EC2 instance; None if there is none.

    Such keys, often written by `aws configure` to get rid of an error, come before the role of the instance: every
    command without a profile uses them, and so does every profile with `source_profile = default`.
    """
    profiles: dict[str, dict[str, str]] = botocore.session.Session().full_config["profiles"]
    if "aws_access_key_id" not in profiles.get("default", {}):
        return None
    sources = _sources(profiles, profile)
    if "default" in sources[1:]:
        return (
            f"profile {profile} uses the access keys under [default] in ~/.aws. If this is an EC2 instance and they "
            "are only placeholders, remove them, and write credential_source = Ec2InstanceMetadata instead of "
            "source_profile = default"
        )
    if any(profiles[one].get("credential_source") == "Ec2InstanceMetadata" for one in sources):
        return (
            f"profile {profile} uses the role of this EC2 instance, but commands without a profile use the access keys "
            "under [default] in ~/.aws, which come before the instance's role. Remove those keys"
        )
    return None
