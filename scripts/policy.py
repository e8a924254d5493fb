"""Whether a policy of ours lets a request through: the part of IAM's language that the template speaks.

Fails closed: what it does not know it calls an error. The proof of the policies is in the tests; this one reads what is deployed.
"""

import re


def allows(document, action, resource, context, principal=None):
    """Whether some statement allows, and none denies. `principal`: the account asking, for a resource's policy."""
    # IAM minds no case in the names of condition keys.
    context = {key.lower(): value for key, value in context.items()}
    verdict = False
    for statement in _listed(document.get("Statement", [])):
        if _concerns(statement, action, resource, context, principal):
            if statement["Effect"] == "Deny":
                return False
            verdict = True
    return verdict


def _concerns(statement, action, resource, context, principal):
    return (_names(statement, principal) and any(_like(one.lower(), action.lower()) for one in _listed(statement["Action"]))
            and any(_like(one, resource) for one in _listed(statement.get("Resource", "*")))
            and all(_holds(operator, values, context.get(key.lower())) for operator, keys in statement.get("Condition", {}).items()
                    for key, values in keys.items()))


def _names(statement, principal):
    given = statement.get("Principal")
    if given is None or given == "*":
        return True
    named = [one for kind in ("AWS", "Service") for one in _listed(given.get(kind, []))]
    return principal in named or f"arn:aws:iam::{principal}:root" in named


def _holds(operator, values, value):
    wanted = _listed(values)
    match operator:
        case "Null":
            return (value is None) == (wanted == ["true"])
        case "ForAllValues:StringEquals":
            return value is None or value in wanted
        case "StringEquals" | "ArnEquals" | "ArnLike" | "StringLike" if value is not None:
            return any(_like(one, value) for one in wanted)
        case "StringEquals" | "ArnEquals" | "ArnLike" | "StringLike" | "Bool" if value is None:
            return False
        case "Bool":
            return value in wanted
        case "StringNotEquals":
            return value not in wanted
        case _:
            raise NotImplementedError(f"a condition by {operator}: read this policy yourself")


def _like(pattern, value):
    return re.fullmatch("".join({"*": ".*", "?": "."}.get(one, re.escape(one)) for one in pattern), value) is not None


def _listed(value):
    return value if isinstance(value, list) else [value]
