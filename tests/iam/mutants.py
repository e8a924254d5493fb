"""Every statement of a policy, broken in turn: what it says removed piece by piece, and what it holds to widened."""

import copy
from dataclasses import dataclass, field

from template.policies import listed


@dataclass(frozen=True)
class Mutant:
    """A policy with one thing broken."""

    policy: str
    broken: str
    document: dict = field(hash=False)

    def __str__(self):
        return f"{self.policy}: {self.broken}"


def of(policy, document):
    """All mutants of a policy's document."""
    for index, statement in enumerate(listed(document["Statement"])):
        name = statement.get("Sid", f"statement {index}")
        for broken, mutated in [("removed", None), *_without_one(statement), *_widened(statement)]:
            changed = copy.deepcopy(document)
            changed["Statement"] = listed(changed["Statement"])
            changed["Statement"][index : index + 1] = [mutated] if mutated else []
            # A policy needs a statement: one that concerns nothing stands for none.
            changed["Statement"] = changed["Statement"] or [{**statement, "Effect": "Deny", "Action": "a4b:Nothing"}]
            yield Mutant(policy, f"{name} {broken}", changed)


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
                    yield f"without Principal {value}", {**statement, "Principal": {kind: [one for one in values if one != value]}}
    for operator, keys in statement.get("Condition", {}).items():
        for key, values in keys.items():
            if len(listed(values)) > 1:
                for value in values:
                    yield f"without {key} {value}", _condition(statement, operator, key, [one for one in values if one != value])


def _widened(statement):
    """Any resource, anybody, or without a condition; and for a Deny that names what is spared, nothing spared."""
    if "NotResource" in statement:
        yield "for any resource", {key: value for key, value in statement.items() if key != "NotResource"} | {"Resource": "*"}
    # A resource's own policy concerns that resource, whatever it says.
    elif "Principal" not in statement and listed(statement.get("Resource", "*")) != ["*"]:
        yield "for any resource", {**statement, "Resource": "*"}
    if "Principal" in statement and statement["Principal"] != "*":
        yield "for anybody", {**statement, "Principal": "*"}
    for operator, keys in statement.get("Condition", {}).items():
        for key in keys:
            yield f"without {operator} {key}", _condition(statement, operator, key, None)


def _condition(statement, operator, key, values):
    condition = copy.deepcopy(statement["Condition"])
    if values is None:
        del condition[operator][key]
    else:
        condition[operator][key] = values
    condition = {one: keys for one, keys in condition.items() if keys}
    return {**{name: value for name, value in statement.items() if name != "Condition"}, **({"Condition": condition} if condition else {})}
