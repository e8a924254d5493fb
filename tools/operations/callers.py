"""Finds who could invoke an alias: the principals of the account, and whoever the alias's resource policy names.

The question is who *could*, so every doubt counts as yes: a condition of an Allow is taken to hold, a conditional Deny
is taken not to hold, and so is a policy that can't be judged. Conditions on the caller's own ARN are evaluated.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from tools.operations.policy import Document, Unclear, allows, as_list

ACTION = "lambda:InvokeFunction"
CALLER = "aws:PrincipalArn"
# The conditions on the caller that are evaluated. All other conditions are taken to be on the caller's side.
KNOWN = {CALLER.lower(), "aws:principalaccount"}
EVERYBODY = {"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"}


class Principals:
    """The users and roles of an account, each with its policies and its boundary."""

    def __init__(self, iam: Any, account: str) -> None:
        self._account = account
        self._users: list[dict[str, Any]] = []
        self._roles: list[dict[str, Any]] = []
        self._groups: dict[str, dict[str, Any]] = {}
        self._managed: dict[str, Document] = {}
        for page in iam.get_paginator("get_account_authorization_details").paginate():
            self._users += page["UserDetailList"]
            self._roles += page["RoleDetailList"]
            self._groups |= {one["GroupName"]: one for one in page["GroupDetailList"]}
            for one in page["Policies"]:
                default = [version for version in one["PolicyVersionList"] if version["IsDefaultVersion"]]
                self._managed[one["Arn"]] = default[0]["Document"]

    def who_could_invoke(self, alias: str, resource_policy: Document | None) -> Iterator[str]:
        """The users and roles that could invoke the alias, and every other principal that its policy lets in."""
        own = resource_policy or {}
        for principal in (*self._users, *self._roles):
            arn = principal["Arn"]
            if not _denies(own, alias, arn, self._account) and (
                self._is_allowed(principal, alias) or _admits(own, alias, arn)
            ):
                yield arn
        yield from _others(own, alias, self._account)

    def _is_allowed(self, principal: dict[str, Any], alias: str) -> bool:
        """Whether the principal's own policies could allow the request. A boundary limits them."""
        inline = principal.get("UserPolicyList", principal.get("RolePolicyList", []))
        groups = [self._groups[name] for name in principal.get("GroupList", []) if name in self._groups]
        documents = [one["PolicyDocument"] for one in inline]
        documents += [one["PolicyDocument"] for group in groups for one in group["GroupPolicyList"]]
        attached = [one for holder in (principal, *groups) for one in holder["AttachedManagedPolicies"]]
        documents += [self._managed.get(one["PolicyArn"], EVERYBODY_MAY) for one in attached]
        whole = {"Statement": [one for document in documents for one in as_list(document["Statement"])]}
        boundary = principal.get("PermissionsBoundary", {}).get("PermissionsBoundaryArn")
        limits = [self._managed.get(boundary, EVERYBODY_MAY)] if boundary else []
        return all(_could(document, alias, principal["Arn"], self._account) for document in (whole, *limits))


# Stands for a policy that was not listed, and so may allow anything.
EVERYBODY_MAY: Document = {"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}


def trusted(trust: Document) -> Iterator[str]:
    """The principals, other than Chatbot, that a role's trust policy names."""
    for statement in as_list(trust.get("Statement", [])):
        if statement.get("Effect") == "Allow":
            named = statement.get("Principal", {"NotPrincipal": "somebody"})
            kinds = {"AWS": named} if isinstance(named, str) else named
            for kind, values in kinds.items():
                yield from (str(one) for one in as_list(values) if (kind, one) != ("Service", "chatbot.amazonaws.com"))


def _could(document: Document, alias: str, arn: str, account: str | None) -> bool:
    """Whether the policy could allow the principal to invoke the alias."""
    try:
        return allows(_generous(document), ACTION, alias, _facts(arn), account)
    except Unclear:
        return True


def _facts(arn: str) -> dict[str, str]:
    return {CALLER: arn, "aws:PrincipalAccount": arn.split(":")[4]}


def _denies(document: Document, alias: str, arn: str, account: str) -> bool:
    """Whether the resource policy denies the alias to the principal."""
    denials = [one for one in as_list(document.get("Statement", [])) if one["Effect"] == "Deny"]
    return not _could({"Statement": [*denials, EVERYBODY]}, alias, arn, account)


def _admits(document: Document, alias: str, arn: str) -> bool:
    """Whether the resource policy itself lets the principal in, by name or with everybody."""
    return _could({"Statement": list(document.get("Statement", []))}, alias, arn, None)


def _others(document: Document, alias: str, account: str) -> Iterator[str]:
    """The services and the other accounts that the resource policy lets in, unless it denies them."""
    for statement in as_list(document.get("Statement", [])):
        if statement["Effect"] != "Allow":
            continue
        principal = statement.get("Principal", {})
        named = {"AWS": principal} if isinstance(principal, str) else principal
        for kind, values in named.items():
            for one in as_list(values):
                name = str(one)
                if kind == "AWS" and name == "*":
                    if not _denies(document, alias, "arn:aws:iam::000000000000:role/any", account):
                        yield "everybody, also in other accounts"
                elif kind != "AWS" and not _denies(document, alias, f"arn:aws:iam::{kind}:service/{name}", account):
                    yield name
                elif kind == "AWS" and account not in name:
                    yield from _elsewhere(document, statement, alias, name)


def _elsewhere(document: Document, statement: Document, alias: str, name: str) -> Iterator[str]:
    """A principal of another account that a statement lets in, unless the policy denies it."""
    account = re.sub(r"\D", "", name.removeprefix("arn:aws:iam::").partition(":")[0])
    conditions = {key.lower(): value for keys in statement.get("Condition", {}).values() for key, value in keys.items()}
    roles: Iterable[str] = as_list(conditions.get(CALLER.lower(), f"arn:aws:iam::{account}:role/any"))
    for role in roles:
        if not _denies(document, alias, role, account):
            yield role if CALLER.lower() in conditions else name


def _generous(document: Document) -> Document:
    """The policy with each doubt decided in the caller's favor, and without the elements that `allows` can't judge."""
    statements = [_decided(one) for one in as_list(document.get("Statement", []))]
    return {"Statement": [one for one in statements if one is not None]}


def _decided(statement: Document) -> Document | None:
    """One statement; None for a Deny that may not hold."""
    plain = dict(statement)
    excluded = plain.pop("NotAction", None)
    if excluded is not None:
        plain["Action"] = [] if _any_matches(as_list(excluded), ACTION) else "*"
    spared = plain.pop("NotResource", None)
    if spared is not None:
        plain["Resource"] = "*"
    conditions = {
        operator: {key: value for key, value in keys.items() if key.lower() in KNOWN}
        for operator, keys in plain.pop("Condition", {}).items()
    }
    whole = conditions == statement.get("Condition", {})
    if statement["Effect"] == "Deny" and (spared is not None or not whole or "NotPrincipal" in plain):
        return None
    return plain | {"Condition": {operator: keys for operator, keys in conditions.items() if keys}}


def _any_matches(patterns: list[str], action: str) -> bool:
    return any(
        re.fullmatch("".join({"*": ".*", "?": "."}.get(one, re.escape(one)) for one in pattern), action, re.IGNORECASE)
        for pattern in patterns
    )
