"""Sessions of AWS profiles that ask for an MFA code once: for all roles of a device, and for the next commands too.

The AWS CLI keeps the credentials of assumed roles in a folder, and so does sam, in another one. Both name a file after
the request, as botocore does. Sessions from here read and write the files of both, so none of the three asks again
while the credentials are valid. A profile without an MFA device needs no cache and gets none.
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
# The session with MFA has to last only until this command has assumed its roles. STS's minimum is 15 minutes.
SECONDS = 900


class CredentialCache:
    """The caches of the AWS CLI and of sam as one."""

    def __init__(self, home: Path) -> None:
        self.folders = [JSONFileCache(str(home / ".aws" / tool / "cache")) for tool in ("cli", "boto")]

    def __contains__(self, key: str) -> bool:
        return any(key in folder for folder in self.folders)

    def __getitem__(self, key: str) -> Any:
        # The credentials that end last. One folder may have older ones.
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

    AWS accepts each code once, so a second role with the same code would have to wait for the next code. Therefore the
    code is given to GetSessionToken, and the roles are assumed with that session.
    """

    def __init__(self) -> None:
        self.sessions: dict[str, dict[str, str]] = {}

    def prompt(self, text: str) -> str:
        """The code that the person enters; nothing if there is a session with MFA already."""
        serial = text.removeprefix(PROMPT).rstrip(": ")
        return "" if serial in self.sessions else getpass.getpass(text)

    def wrap(self, create: Callable[..., Any]) -> Callable[..., Any]:
        """The creator of STS clients, whose clients assume roles with the session."""

        def create_client(service: str, **source: Any) -> Any:
            return _Assumer(self, create, service, source)

        return create_client


class _Assumer:
    """The one operation of an STS client that botocore calls to assume a role."""

    def __init__(self, factor: SecondFactor, create: Callable[..., Any], service: str, source: dict[str, Any]) -> None:
        self.factor, self.create, self.service, self.source = factor, create, service, source

    def assume_role(self, **request: Any) -> Any:
        """The answer of AssumeRole."""
        serial = request.get("SerialNumber")
        if serial is None or self.source.get("aws_session_token"):
            return self.create(self.service, **self.source).assume_role(**request)
        if serial not in self.factor.sessions:
            try:
                self.factor.sessions[serial] = self._session(serial, request["TokenCode"])
            except ClientError:
                # A policy may deny GetSessionToken. A wrong code fails here as well, with AWS's own message.
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


# One for the whole command, which may use the profiles of several accounts.
_FACTOR = SecondFactor()


def session_of(profile: str, region: str) -> boto3.Session:
    """A session of the profile."""
    inner = botocore.session.Session(profile=profile)
    chain: Any = inner.get_component("credential_provider")
    if _has_device(inner.full_config["profiles"], profile):
        provider = chain.get_provider("assume-role")
        provider.cache = CredentialCache(Path.home())
        # botocore has no public way to set these two.
        provider._client_creator = _FACTOR.wrap(provider._client_creator)
        provider._prompter = _FACTOR.prompt
    return boto3.Session(botocore_session=inner, region_name=region)


def _has_device(profiles: dict[str, dict[str, str]], name: str | None) -> bool:
    """Whether the profile, or one that its credentials come from, names an MFA device."""
    seen: set[str] = set()
    while name and name in profiles and name not in seen:
        if "mfa_serial" in profiles[name]:
            return True
        seen.add(name)
        name = profiles[name].get("source_profile")
    return False
