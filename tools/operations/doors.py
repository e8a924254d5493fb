"""The doors of temp-access: Lambda aliases, each with a resource policy that lets in only the door's own role.

The policy denies everybody else, because in the same account a permission such as `lambda:InvokeFunction` on `*` would
otherwise open every door.
"""

import json
import re
import tomllib
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any, NamedTuple

from botocore.exceptions import ClientError

from tools.failure import Failure
from tools.layout import CONFIG
from tools.operations.environment import Environment, environments
from tools.operations.leftovers import found
from tools.operations.policy import Document, as_list

FUNCTION = "temp-access"
# The alias through which another account hands requests on, and the read-only alias that the stack creates.
HUB, BOARD = "hub", "board"
# The door of the approvers' channel. The stack creates its role, together with the channel. In an account without
# this channel, the door is closed: whoever may create roles could otherwise create the one that it lets in.
APPROVERS = "approvers"
NAME = re.compile(r"[a-z][a-z0-9-]{0,31}", re.ASCII)
# Every door follows the latest code and configuration. A version would keep its own configuration.
LATEST = "$LATEST"
# An asynchronous invocation waits at most this many seconds and is not repeated. Otherwise, a grant could begin hours
# after the request.
WAIT = {"MaximumEventAgeInSeconds": 60, "MaximumRetryAttempts": 0}
# Without InvokeFunctionUrl, a function URL for the alias would be another way in. InvokeAsync is an older API, which
# AWS still lists as an action of its own, and whose function name may have an alias. `make smoke` checks that Lambda
# takes all of them.
INVOKE = ["lambda:InvokeAsync", "lambda:InvokeFunction", "lambda:InvokeFunctionUrl"]
# The errors with which Lambda refuses a policy as such. After any other error, it may take the same policy later.
REFUSALS = {
    "InvalidParameterValueException",
    "PolicyLengthExceededException",
    "PublicPolicyException",
    "ValidationException",
}
ADVICE = "docs/deploy.md#when-lambda-refuses-the-policy-of-a-door"


def check_name(name: str) -> None:
    """Fails unless a door may have this name."""
    if name in (BOARD, HUB) or not NAME.fullmatch(name):
        raise Failure(
            f"NAME={name} is no name of a door: use a lower-case letter, and then up to 31 lower-case letters, digits "
            f"and hyphens. {BOARD} and {HUB} are reserved."
        )


def role_name(name: str, region: str) -> str:
    """The name of the role of whoever may use the door."""
    return f"sekisho-door-{name}-{region}"


def policy(alias: str, role: str | None) -> Document:
    """The resource policy of an alias: it lets in the role, and denies everybody else. Without a role, it denies all.

    The policy names the role's account as principal, because AWS refuses a policy that names a role before the role
    exists. A caller without `aws:PrincipalArn`, such as a service, is denied.
    """
    if role is None:
        nobody = {"Sid": "Nobody", "Effect": "Deny", "Principal": "*", "Action": INVOKE, "Resource": alias}
        return {"Version": "2012-10-17", "Statement": [nobody]}
    account = role.split(":")[4]
    key = "aws:PrincipalArn"
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "Door",
                "Effect": "Allow",
                "Principal": {"AWS": f"arn:aws:iam::{account}:root"},
                "Action": "lambda:InvokeFunction",
                "Resource": alias,
                "Condition": {"StringEquals": {key: role}},
            },
            {
                "Sid": "NobodyElse",
                "Effect": "Deny",
                "Principal": "*",
                "Action": INVOKE,
                "Resource": alias,
                "Condition": {"StringNotEquals": {key: role}},
            },
        ],
    }


def people(text: str) -> dict[str, dict[str, Any]]:
    """The entries below [access.people] of a sekisho.toml, by the names of their doors."""
    try:
        entries: dict[str, dict[str, Any]] = tomllib.loads(text).get("access", {}).get("people", {})
        return {name: dict(entry) for name, entry in entries.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise Failure(
            f"[access.people] of {CONFIG.name} can't be read ({type(error).__name__}: {error}): make deploy reports "
            "the place and the reason."
        ) from None


def _whom(role: str | None) -> str:
    """Whom a policy lets in, in words."""
    return f"only {role}" if role else "nobody"


def regions_of_hub(account: str) -> list[str]:
    """The regions in which the hub account grants access; none if it is no such environment of samconfig.toml."""
    return sorted(
        {one.region for one in environments().values() if one.account == account and one.does("GrantsAccess")}
    )


def hub_role(account: str, region: str) -> str:
    """The role of the hub account's temp-access."""
    return f"arn:aws:iam::{account}:role/sekisho-temp-access-{region}"


class Flaw(NamedTuple):
    """What is wrong with a door. `opens` is set if somebody else than the door's role could come through."""

    text: str
    opens: bool = False


class Doors:
    """The doors of one account: its aliases of temp-access, and the policy of each."""

    def __init__(self, target: Environment, client: Callable[[str], Any]) -> None:
        self.target = target
        self.function = f"arn:aws:lambda:{target.region}:{target.account}:function:{FUNCTION}"
        self._functions = client("lambda")

    def arn(self, name: str) -> str:
        """The ARN of an alias."""
        return f"{self.function}:{name}"

    def role(self, name: str) -> str:
        """The ARN of the role of whoever may use the door."""
        return f"arn:aws:iam::{self.target.account}:role/{role_name(name, self.target.region)}"

    def admitted(self, name: str) -> str | None:
        """The role that the door's policy should let in; None if the door is closed."""
        is_closed = name == APPROVERS and not self.target.parameters.get("ApproverSlackChannelId")
        return None if is_closed else self.role(name)

    @cached_property
    def versions(self) -> dict[str, str] | None:
        """The version of each alias, by the alias's name; None if there is no temp-access."""
        versions: dict[str, str] = {}
        marker = None
        while True:
            more: dict[str, str] = {"Marker": marker} if marker else {}
            page = found(self._functions.list_aliases, FunctionName=FUNCTION, **more)
            if page is None:
                return None
            versions |= {one["Name"]: _version(one) for one in page["Aliases"]}
            marker = page.get("NextMarker")
            if not marker:
                return versions

    @property
    def names(self) -> list[str]:
        """The names of all aliases but the stack's own."""
        return sorted(name for name in self.versions or {} if name != BOARD)

    def policy(self, name: str) -> Document | None:
        """The resource policy of an alias; None if it has none."""
        answer = found(self._functions.get_resource_policy, ResourceArn=self.arn(name))
        document: Document | None = json.loads(answer["Policy"]) if answer else None
        return document

    def wait(self, name: str) -> dict[str, int]:
        """How long an asynchronous invocation of an alias may wait, and how often it is repeated."""
        answer = found(self._functions.get_function_event_invoke_config, FunctionName=FUNCTION, Qualifier=name) or {}
        return {key: answer[key] for key in WAIT if key in answer}

    def flaws(self, name: str, role: str | None) -> Iterator[Flaw]:
        """What is wrong with a door whose policy should let in this role, or nobody."""
        version = (self.versions or {}).get(name)
        if version is None:
            yield Flaw(f"{FUNCTION} has no alias {name}")
            return
        document = self.policy(name)
        if document is None:
            yield Flaw(f"alias {name} has no resource policy, so other permissions in the account open it", opens=True)
        elif not same(document, policy(self.arn(name), role)):
            yield Flaw(f"the resource policy of alias {name} is not the one that lets in {_whom(role)}", opens=True)
        if version != LATEST:
            yield Flaw(f"alias {name} leads to {version} instead of {LATEST}, and so keeps an old configuration")
        if self.wait(name) != WAIT:
            yield Flaw(f"asynchronous invocations of alias {name} may wait for more than 60 seconds, or are repeated")

    def role_of_hub(self, account: str) -> str:
        """The role that the hub's policy should let in: that of the hub's stack.

        In another region, that role does not exist, so whoever may create roles in the hub account could be it. Only if
        samconfig.toml does not say where that stack is, or names several regions, the policy's region counts.
        """
        regions, admitted = regions_of_hub(account), self.admitted_region(account)
        if not regions:
            return hub_role(account, admitted or self.target.region)
        return hub_role(account, admitted if admitted in regions else regions[0])

    def admitted_region(self, account: str) -> str | None:
        """The region of the hub's role that the policy of the alias names; None if there is none."""
        named = json.dumps(self.policy(HUB) or {})
        role = re.search(rf"arn:aws:iam::{account}:role/sekisho-temp-access-([a-z0-9-]+)", named, re.ASCII)
        return role[1] if role else None

    def create(self, name: str, role: str | None) -> Iterator[str]:
        """Creates the alias and its policy, and yields a line about each change. What is right already is left alone.

        An alias without its policy is open to others. So a new alias goes again if it does not get its policy, and any
        alias without a policy goes if Lambda refuses the policy.
        """
        versions = self.versions
        if versions is None:
            raise Failure(
                f"Account {self.target.account} has no {FUNCTION} in {self.target.region} yet: make deploy "
                f"ENV={self.target.name} first."
            )
        is_new = name not in versions
        if is_new:
            self._functions.create_alias(FunctionName=FUNCTION, Name=name, FunctionVersion=LATEST)
        document = None if is_new else self.policy(name)
        if document is None or not same(document, policy(self.arn(name), role)):
            try:
                self._close(name, role)
            except BaseException as error:
                refused = isinstance(error, ClientError) and error.response["Error"]["Code"] in REFUSALS
                removed = is_new or (refused and document is None)
                if removed:
                    self._take_away(name, error)
                if refused:
                    raise self._refused(name, error, removed=removed) from error
                raise
            if is_new:
                yield f"created  alias {name} of {FUNCTION}, with a resource policy that lets in {_whom(role)}"
            else:
                yield f"changed  resource policy of alias {name}: it lets in {_whom(role)}"
        if versions.get(name, LATEST) != LATEST:
            undivided: dict[str, dict[str, float]] = {"AdditionalVersionWeights": {}}
            self._functions.update_alias(
                FunctionName=FUNCTION, Name=name, FunctionVersion=LATEST, RoutingConfig=undivided
            )
            yield f"changed  alias {name}: it leads to {LATEST}"
        if self.wait(name) != WAIT:
            self._functions.put_function_event_invoke_config(FunctionName=FUNCTION, Qualifier=name, **WAIT)
            yield f"changed  alias {name}: an asynchronous invocation waits at most 60 seconds"
        self.__dict__.pop("versions", None)

    def _close(self, name: str, role: str | None) -> None:
        arn = self.arn(name)
        self._functions.put_resource_policy(ResourceArn=arn, Policy=json.dumps(policy(arn, role)))

    def _take_away(self, name: str, error: BaseException) -> None:
        """Deletes an alias that did not get its policy because of this error."""
        try:
            self._functions.delete_alias(FunctionName=FUNCTION, Name=name)
        except Exception as left:  # whatever the error is, the operator must learn that the alias is open
            raise Failure(
                f"Alias {name} of {FUNCTION} is open: delete it. It has no resource policy ({error}), and it could not "
                f"be removed ({left}): aws lambda delete-alias --function-name {FUNCTION} --name {name} --region "
                f"{self.target.region}, in account {self.target.account}."
            ) from error

    def _refused(self, name: str, error: BaseException, *, removed: bool) -> Failure:
        """What to do after Lambda has refused the policy of a door."""
        env = self.target.name
        keeps = f"keeps the policy that it has: make doctor ENV={env} shows who comes through it"
        return Failure(
            f"Lambda refuses the resource policy of a door ({error}). The alias {name} "
            f"{'is removed, so nobody comes through it' if removed else keeps}.\n"
            f"{ADVICE} says what to do. make smoke ENV={env} WRITE=1 checks the policy alone."
        )

    def remove(self, name: str) -> Iterator[str]:
        """Removes the alias, and yields a line if there was one. Its policy and its settings go with it.

        The policy is not deleted before the alias, because that would open the door.
        """
        if name in (self.versions or {}):
            self._functions.delete_alias(FunctionName=FUNCTION, Name=name)
            found(self._functions.delete_function_event_invoke_config, FunctionName=FUNCTION, Qualifier=name)
            self.__dict__.pop("versions", None)
            yield f"removed  alias {name} of {FUNCTION}, with its resource policy"


def _version(alias: dict[str, Any]) -> str:
    """The version to which an alias leads, and those among which it divides the invocations, if there are any."""
    others = alias.get("RoutingConfig", {}).get("AdditionalVersionWeights", {})
    return " and ".join([str(alias["FunctionVersion"]), *others])


def same(one: Document, other: Document) -> bool:
    """Whether two policies have the same statements, in any order and spelling. The names of statements don't count."""
    first, second = (_plain(as_list(document.get("Statement", []))) for document in (one, other))
    return bool(first == second)


def _plain(value: Any) -> Any:
    """A value of a policy in one spelling: single values as lists, and lists in one order."""
    if isinstance(value, dict):
        return sorted((key, _plain(one)) for key, one in value.items() if key != "Sid")
    if isinstance(value, list):
        return sorted((_plain(one) if isinstance(one, dict) else one for one in value), key=repr)
    return [value]
