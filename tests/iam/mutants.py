"""Breaks every statement of a policy in turn: removes each of its elements, and widens each of its limits."""

import copy
import fnmatch
import re
from dataclasses import dataclass, field

from tests.template.policies import listed


def type_and_name(rest):
    """Splits the last part of an ARN into the resource's type and name; the type is None if the part has none."""
    found = re.fullmatch(r"(?s)([a-z][a-z-]*[:/])?(.*)", rest)
    assert found
    return found.groups()


@dataclass(frozen=True)
class Mutant:
    """A policy with one broken statement, and the actions of that statement before and after the change."""

    policy: str
    broken: str
    document: dict = field(hash=False)
    actions: tuple

    def __str__(self):
        return f"{self.policy}: {self.broken}"

    def concerns(self, action):
        """Returns whether the outcome of a request for the action may have changed."""
        return any(fnmatch.fnmatchcase(action.lower(), pattern.lower()) for pattern in self.actions)


def of(policy, document):
    """Yields all mutants of a policy's document."""
    for index, statement in enumerate(listed(document["Statement"])):
        name = statement.get("Sid", f"statement {index}")
        for broken, mutated in [("removed", None), *_without_one(statement), *_widened(statement)]:
            changed = copy.deepcopy(document)
            changed["Statement"] = listed(changed["Statement"])
            changed["Statement"][index : index + 1] = [mutated] if mutated else []
            # A policy needs at least one statement. This statement applies to no request.
            changed["Statement"] = changed["Statement"] or [{**statement, "Effect": "Deny", "Action": "a4b:Nothing"}]
            yield Mutant(policy, f"{name} {broken}", changed, tuple(_changed_actions(statement, mutated or {})))


def _changed_actions(statement, mutated):
    """Returns the patterns of actions about which the two statements differ."""
    before, after = set(listed(statement["Action"])), set(listed(mutated.get("Action", [])))
    same = {**statement, "Action": None} == {**mutated, "Action": None}
    return sorted(before ^ after if same else before | after)


def _without_one(statement):
    for element in ("Action", "Resource", "NotResource"):
        values = listed(statement.get(element, []))
        if len(values) > 1:
            for value in values:
                yield f"without {element} {value}", {**statement, element: [one for one in values if one != value]}
    principal = statement.get("Principal")
    if isinstance(principal, dict):
        for kind, values in principal.items():
            if len(listed(values)) > 1:
                for value in values:
                    yield (
                        f"without Principal {value}",
                        {**statement, "Principal": {kind: [one for one in values if one != value]}},
                    )
    for operator, keys in statement.get("Condition", {}).items():
        for key, values in keys.items():
            if len(listed(values)) > 1:
                for value in values:
                    yield (
                        f"without {key} {value}",
                        _condition(statement, operator, key, [one for one in values if one != value]),
                    )


def _widened(statement):
    """Yields the statement for any resource, for anybody and without a condition, and a Deny without its exceptions."""
    if "NotResource" in statement:
        yield (
            "for any resource",
            {key: value for key, value in statement.items() if key != "NotResource"} | {"Resource": "*"},
        )
    # The policy on a resource applies to that resource only, so a wider Resource element in it changes nothing.
    elif "Principal" not in statement and listed(statement.get("Resource", "*")) != ["*"]:
        yield "for any resource", {**statement, "Resource": "*"}
    if "Principal" in statement and statement["Principal"] != "*":
        yield "for anybody", {**statement, "Principal": "*"}
    if statement["Effect"] == "Allow":
        yield from _wider_actions(statement)
        if "Principal" not in statement:
            yield from _wider_resources(statement)
    for operator, keys in statement.get("Condition", {}).items():
        for key in keys:
            yield f"without {operator} {key}", _condition(statement, operator, key, None)


def _wider_actions(statement):
    """Yields the statement with all actions of one service, for each of its services."""
    actions = listed(statement["Action"])
    for service in sorted({action.partition(":")[0] for action in actions if action != "*"}):
        yield f"for {service}:*", {**statement, "Action": [*actions, f"{service}:*"]}


def _wider_resources(statement):
    """Yields the statement with one resource widened: to any account, any region, or any name of the same type."""
    resources = listed(statement.get("Resource", []))
    for index, resource in enumerate(resources):
        for what, wider in _wider(resource):
            yield (
                f"for {resource} {what}",
                {**statement, "Resource": [*resources[:index], wider, *resources[index + 1 :]]},
            )


def _wider(resource):
    if resource.count(":") < 5:
        return
    *head, region, account, rest = resource.split(":", 5)

    def join(region, account, rest):
        return ":".join([*head, region, account, rest])

    if account.isdigit():
        yield "of any account", join(region, "*", rest)
    if region not in ("", "*"):
        yield "of any region", join("*", account, rest)
    kind, name = type_and_name(rest)
    if name != "*":
        yield "of any name", join(region, account, f"{kind}*")


def _condition(statement, operator, key, values):
    condition = copy.deepcopy(statement["Condition"])
    if values is None:
        del condition[operator][key]
    else:
        condition[operator][key] = values
    condition = {one: keys for one, keys in condition.items() if keys}
    return {
        **{name: value for name, value in statement.items() if name != "Condition"},
        **({"Condition": condition} if condition else {}),
    }
