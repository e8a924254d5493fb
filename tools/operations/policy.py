"""Decides whether a policy allows a request, for the part of IAM's policy language that the template uses.

If the decision depends on another part of the language, `allows` raises `Unclear`. The tests check the template's
policies with an IAM simulator, and this module judges the deployed policies.
"""

import re
from collections.abc import Mapping
from typing import Any

Document = dict[str, Any]
Context = Mapping[str, str]


class Unclear(Exception):
    """A policy can't be judged here; the text says why, and what to do."""


def allows(document: Document, action: str, resource: str, context: Context, principal: str | None = None) -> bool:
    """Whether some statement allows the request and none denies it.

    `principal` is the account or service that makes the request. Only a resource's own policy needs it.
    """
    # IAM ignores the case of condition keys.
    context = {key.lower(): value for key, value in context.items()}
    allowed = False
    unclear: dict[str, Unclear] = {}
    for statement in as_list(document.get("Statement", [])):
        try:
            applies = _applies(statement, action, resource, context, principal)
        except Unclear as doubt:
            unclear[statement["Effect"]] = doubt
            continue
        if applies and statement["Effect"] == "Deny":
            return False
        allowed = allowed or applies
    # If the request is allowed anyway, an unclear Allow changes nothing. If no statement allows the request, an unclear
    # Deny changes nothing.
    if doubtful := unclear.get("Deny" if allowed else "Allow"):
        raise doubtful
    return allowed


def unread(problem: str) -> Document:
    """A placeholder for a document that can't be read. Such a document may allow or deny anything."""
    return {"Statement": [{"Effect": effect, "Unread": problem} for effect in ("Allow", "Deny")]}


def _applies(statement: Document, action: str, resource: str, context: Context, principal: str | None) -> bool:
    if "Unread" in statement:
        raise Unclear(statement["Unread"])
    return (
        _names_principal(statement, principal, context)
        and any(_matches(pattern.lower(), action.lower()) for pattern in as_list(_element(statement, "Action")))
        and _names_resource(statement, resource)
        and all(
            _holds(operator, values, context.get(key.lower()))
            for operator, keys in statement.get("Condition", {}).items()
            for key, values in keys.items()
        )
    )


def _element(statement: Document, element: str) -> Any:
    """An element of a statement; raises `Unclear` if the statement has the negated element, such as NotAction."""
    if f"Not{element}" in statement:
        raise Unclear(f"a statement with Not{element}: read this policy yourself")
    return statement.get(element)


def _names_resource(statement: Document, resource: str) -> bool:
    if "NotResource" in statement:
        return not any(_matches(pattern, resource) for pattern in as_list(statement["NotResource"]))
    return any(_matches(pattern, resource) for pattern in as_list(statement.get("Resource", "*")))


def _names_principal(statement: Document, principal: str | None, context: Context) -> bool:
    given = _element(statement, "Principal")
    if given is None or given == "*":
        return True
    named = [one for kind in ("AWS", "Service") for one in as_list(given.get(kind, []))]
    asking = {"*", principal, f"arn:aws:iam::{principal}:root", context.get("aws:principalarn")}
    return not asking.isdisjoint(named)


def _holds(operator: str, values: Any, value: str | None) -> bool:
    wanted = as_list(values)
    if operator.endswith("IfExists"):
        return value is None or _holds(operator.removesuffix("IfExists"), values, value)
    match operator:
        case "Null":
            return (value is None) == (wanted == ["true"])
        case "ForAllValues:StringEquals":
            return value is None or value in wanted
        case "ForAnyValue:StringLike" if value is None:
            units = ", ".join(wanted)
            raise Unclear(f"the other account's place in the organization ({units}): check that it is in that unit")
        case "StringEquals" | "ArnEquals" | "ArnLike" | "StringLike" | "ForAnyValue:StringLike":
            return value is not None and any(_matches(pattern, value) for pattern in wanted)
        case "Bool":
            return value in wanted
        case "StringNotEquals":
            return value not in wanted
        case _:
            raise Unclear(f"a condition by {operator}: read this policy yourself")


def _matches(pattern: str, value: str) -> bool:
    if "${" in pattern:
        raise Unclear(f"the variable in {pattern}: read this policy yourself")
    expression = "".join({"*": ".*", "?": "."}.get(one, re.escape(one)) for one in pattern)
    return re.fullmatch(expression, value) is not None


def as_list(value: Any) -> list[Any]:
    """The value of a policy element as a list."""
    return value if isinstance(value, list) else [value]
