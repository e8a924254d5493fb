"""Whether a policy of ours lets a request through: the part of IAM's language that the template speaks.

What it does not know it calls unclear, where the answer hangs on that. The proof of the policies is in the tests; this one
reads what is deployed.
"""

import re


class Unclear(Exception):
    """What a policy says is beyond what is read here, and what to do."""


def allows(document, action, resource, context, principal=None):
    """Whether some statement allows, and none denies. `principal`: the account or service asking, for a resource's policy."""
    # IAM minds no case in the names of condition keys.
    context = {key.lower(): value for key, value in context.items()}
    allowed, unclear = False, {}
    for statement in _listed(document.get("Statement", [])):
        try:
            concerns = _concerns(statement, action, resource, context, principal)
        except Unclear as what:
            unclear[statement["Effect"]] = what
            continue
        if concerns and statement["Effect"] == "Deny":
            return False
        allowed = allowed or concerns
    # What is allowed, another Allow takes from nobody; what is not, another Deny gives to nobody.
    if doubt := unclear.get("Deny" if allowed else "Allow"):
        raise doubt
    return allowed


def unread(what):
    """A document in the place of one that can't be read: it may allow anything, and deny anything."""
    return {"Statement": [{"Effect": effect, "Unread": what} for effect in ("Allow", "Deny")]}


def _concerns(statement, action, resource, context, principal):
    if "Unread" in statement:
        raise Unclear(statement["Unread"])
    return (_names(statement, principal, context)
            and any(_like(one.lower(), action.lower()) for one in _listed(_plain(statement, "Action")))
            and any(_like(one, resource) for one in _listed(_plain(statement, "Resource", "*")))
            and all(_holds(operator, values, context.get(key.lower())) for operator, keys in statement.get("Condition", {}).items()
                    for key, values in keys.items()))


def _plain(statement, element, default=None):
    """An element that is not turned round: NotAction and the like are beyond this."""
    if f"Not{element}" in statement:
        raise Unclear(f"a statement with Not{element}: read this policy yourself")
    return statement.get(element, default)


def _names(statement, principal, context):
    given = _plain(statement, "Principal")
    if given is None or given == "*":
        return True
    named = [one for kind in ("AWS", "Service") for one in _listed(given.get(kind, []))]
    return not {"*", principal, f"arn:aws:iam::{principal}:root", context.get("aws:principalarn")}.isdisjoint(named)


def _holds(operator, values, value):
    wanted = _listed(values)
    if operator.endswith("IfExists"):
        return value is None or _holds(operator.removesuffix("IfExists"), values, value)
    match operator:
        case "Null":
            return (value is None) == (wanted == ["true"])
        case "ForAllValues:StringEquals":
            return value is None or value in wanted
        case "ForAnyValue:StringLike":
            raise Unclear(f"where in the organization the other account is ({', '.join(wanted)}): see whether it is in that unit")
        case "StringEquals" | "ArnEquals" | "ArnLike" | "StringLike" if value is not None:
            return any(_like(one, value) for one in wanted)
        case "StringEquals" | "ArnEquals" | "ArnLike" | "StringLike" | "Bool" if value is None:
            return False
        case "Bool":
            return value in wanted
        case "StringNotEquals":
            return value not in wanted
        case _:
            raise Unclear(f"a condition by {operator}: read this policy yourself")


def _like(pattern, value):
    if "${" in pattern:
        raise Unclear(f"the variable in {pattern}: read this policy yourself")
    return re.fullmatch("".join({"*": ".*", "?": "."}.get(one, re.escape(one)) for one in pattern), value) is not None


def _listed(value):
    return value if isinstance(value, list) else [value]
