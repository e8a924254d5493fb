"""Makes or removes a door of temp-access: the alias that only one person, or the members of one group, may invoke.

    make person NAME=hana ENV=production PROFILE=admin PREPARE=user/prd-hana
    make person NAME=hana ENV=production PROFILE=admin REMOVE=1

A door consists of an alias with its resource policy, and of the role of whoever may use it (bootstrap/person.yaml).
PREPARE=… also prepares an IAM user or role for temp-access; a user that does not exist is created, without a password.
PROFILE names an administrator's credentials. A second run changes nothing.

The door is made before the configuration names it, and removed from the configuration after it is gone.
"""

import argparse
import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError, WaiterError

from tools.failure import Failure
from tools.layout import CONFIG, LEDGER, ROOT
from tools.operations.doors import APPROVERS, FUNCTION, Doors, check_name, people, role_name
from tools.operations.environment import Environment, environment, environments
from tools.operations.leftovers import found
from tools.operations.person_stack import PersonStack
from tools.operations.prepare import prepare
from tools.operations.slack_roles import SlackRoles

CONFIG_NAME = CONFIG.relative_to(ROOT)


def make_person(target: Environment, name: str, principal: str | None) -> None:
    """Makes the door, prints each change, and then what remains to be done."""
    session = session_of_access(target)
    doors = doors_of(target, session)
    if doors.versions is None:
        raise Failure(f"There is no {FUNCTION} in account {target.account} yet: make deploy ENV={target.name} first.")
    kind, who = _principal(principal)
    changes = 0
    # The role comes first, so that the door opens for somebody as soon as it exists.
    for line in (*_role(session, name, kind, who), *doors.create(name, doors.admitted(name))):
        print(f"  {line}", flush=True)
        changes += 1
    if not changes:
        print(f"  Nothing to change: door {name} is as it should be.")
    if kind:
        prepare(target, kind, who)
    print("\nNext:")
    for step in _steps(target, name, f"{kind.lower()}/{who}" if kind else "user/…"):
        print(f"- {step}")


def session_of_access(target: Environment) -> boto3.Session:
    """A session for the doors of an environment; fails if its account grants no access."""
    if not target.does("GrantsAccess"):
        raise Failure(
            f"Environment {target.name} (account {target.account}) grants no access: use an environment with "
            "GrantsAccess=true."
        )
    return target.session()


def doors_of(target: Environment, session: boto3.Session) -> Doors:
    """The doors of an environment."""
    make_client: Any = session.client
    return Doors(target, make_client)


def _principal(text: str | None) -> tuple[str, str]:
    """The kind and the name of the principal to prepare; both are empty if there is none."""
    if not text:
        return "", ""
    kind, _, name = text.partition("/")
    if kind not in ("user", "role") or not name:
        raise Failure(
            f"PREPARE={text} is neither user/NAME nor role/NAME. A person of Identity Center needs no preparation: "
            "docs/access.md."
        )
    return kind.title(), name


def _role(session: boto3.Session, name: str, kind: str, who: str) -> Iterator[str]:
    """Deploys the stack with the door's role. The stack also creates the prepared user, if there is no such user."""
    if name == APPROVERS:
        return
    stack = PersonStack(session.client("cloudformation"), name)
    iam = session.client("iam")
    is_new = kind == "User" and found(iam.get_user, UserName=who) is None
    yield from stack.deploy(who if is_new else stack.user)


def _steps(target: Environment, name: str, principal: str) -> Iterator[str]:
    """What remains to be done for a door that exists."""
    if name in people(CONFIG.read_text()):
        yield f"{CONFIG_NAME} has [access.people.{name}] already"
    elif name == APPROVERS:
        yield f"write this into {CONFIG_NAME}, with the doors of the members:\n\n{_group(name)}"
    else:
        yield f"write this into {CONFIG_NAME}, with the profiles that you want:\n\n{_entry(name, principal)}"
    accounts = ", ".join(one.name for one in environments().values() if one.does("GrantsAccess"))
    yield f"make deploy ENV=… for each account that grants access ({accounts}), after it has the same door"
    role = role_name(name, target.region)
    if name == APPROVERS and target.parameters.get("ApproverSlackChannelId"):
        yield f"the stack creates the role {role}, which is that of the whole channel"
        return
    if name == APPROVERS:
        yield (
            f"this door is closed: nobody comes through it. To open it, set ApproverSlackChannelId of {target.name}, "
            "and run this command again before the next deployment"
        )
        return
    yield (
        f"in Slack, whoever may use the door writes `@Amazon Q switch-role` in the channel, chooses account "
        f"{target.account}, and then the role {role}"
    )
    request = f'--region {target.region} --payload {{"user":"…","profile":"…"}}'
    yield (
        f"requests through this door, in either spelling:\n"
        f"    @Amazon Q lambda invoke --function-name {FUNCTION}:{name} {request}\n"
        f"    @Amazon Q lambda invoke --function-name {FUNCTION} --qualifier {name} {request}"
    )


def _entry(name: str, principal: str) -> str:
    return (
        f"    [access.people.{name}]\n"
        '    may_ask     = ["read-only"]\n'
        f'    for         = ["{principal}"]\n'
        "    may_approve = []\n"
    )


def _group(name: str) -> str:
    return f'    [access.people.{name}]\n    members     = ["…", "…"]\n    may_approve = ["…"]\n'


def remove_person(target: Environment, name: str) -> None:
    """Removes the door, and prints what remains to be done. The door closes first."""
    session = session_of_access(target)
    doors = doors_of(target, session)
    changes = 0
    for line in _removals(session, doors, name):
        print(f"  {line}", flush=True)
        changes += 1
    if not changes:
        print(f"  Nothing to remove: account {target.account} has no door {name}.")
    print("\nNext:")
    for step in _remaining(target, session, name):
        print(f"- {step}")


def _removals(session: boto3.Session, doors: Doors, name: str) -> Iterator[str]:
    yield from doors.remove(name)
    make_client: Any = session.client
    slack = SlackRoles(make_client)
    try:
        for mapping in slack.mappings():
            if mapping.role == doors.role(name):
                slack.unmap(mapping)
                yield f"removed  the mapping of {mapping} to the role of the door"
    except (ClientError, BotoCoreError) as error:
        yield (
            f"kept     whoever is mapped to role {role_name(name, doors.target.region)} in Slack ({error}): unmap them "
            "in the console of Amazon Q Developer in chat applications, User permissions"
        )
    if name != APPROVERS:
        yield from PersonStack(session.client("cloudformation"), name).delete()


def _remaining(target: Environment, session: boto3.Session, name: str) -> Iterator[str]:
    """What remains to be done for a door that is gone."""
    entries = people(CONFIG.read_text())
    groups = [one for one, entry in entries.items() if name in entry.get("members", [])]
    named = [f"[access.people.{name}]"] if name in entries else []
    named += [f"members of [access.people.{one}]" for one in groups]
    if named:
        yield f"take {name} out of {' and '.join(named)} in {CONFIG_NAME}"
    others = [one.name for one in environments().values() if one.does("GrantsAccess") and one.name != target.name]
    for other in others:
        yield f"if account {environment(other).account} has the door, too: make person NAME={name} ENV={other} REMOVE=1"
    yield (
        "make deploy ENV=… for each account that grants access. From then on, the door approves nothing. The next "
        "sweep withdraws its requests that wait, and ends its grants that have not begun"
    )
    if name == APPROVERS and target.parameters.get("ApproverSlackChannelId"):
        yield f"remove ApproverSlackChannelId of {target.name}: the role of the channel goes with it"
    yield from _ways_through_groups(target, session, name, groups)
    principals = entries.get(name, {}).get("for", [])
    try:
        principals = principals + user_ids(target, session, principals)
    except (ClientError, BotoCoreError) as error:
        yield f"look for live grants of {name} under another address: Identity Center can't be asked ({error})"
    try:
        grants = list(live_grants(session.client("dynamodb"), name, groups, principals))
    except (ClientError, BotoCoreError) as error:
        yield f'look for live grants with {{"action":"list"}}: the ledger can\'t be read ({error})'
        return
    yield from grants
    if not grants:
        yield f"no live grant was asked for or approved at the door {name}"


def _ways_through_groups(
    target: Environment, session: boto3.Session, name: str, groups: Iterable[str]
) -> Iterator[str]:
    """Who comes through the doors of groups to which the person belonged. AWS does not say who a member of Slack is."""
    roles = {doors_of(target, session).role(one): one for one in groups}
    if APPROVERS in groups and target.parameters.get("ApproverSlackChannelId"):
        yield f"take {name} out of the approvers' channel: whoever is in it comes through the door {APPROVERS}"
    make_client: Any = session.client
    try:
        mappings = SlackRoles(make_client).mappings() if roles else []
    except (ClientError, BotoCoreError) as error:
        yield (
            f"unmap {name} from the doors of {' and '.join(roles.values())} in the console of Amazon Q Developer in "
            f"chat applications, User permissions (the mappings can't be read: {error})"
        )
        return
    for mapping in (one for one in mappings if one.role in roles):
        yield (
            f"{mapping} comes through the door {roles[mapping.role]}: if that is {name}, unmap them in the console of "
            "Amazon Q Developer in chat applications, User permissions"
        )


def user_ids(target: Environment, session: boto3.Session, principals: Iterable[str]) -> list[str]:
    """The people among these principals by their user ids, because a person may have been let in under another name."""
    store = target.parameters.get("IdentityStoreId")
    addresses = [one.removeprefix("person/") for one in principals if one.startswith("person/")]
    if not store or not addresses:
        return []
    region = target.parameters.get("IdentityCenterRegion") or target.region
    identities: Any = session.client("identitystore", region_name=region)
    ids = []
    for address in addresses:
        # As for temp-access, an address that nobody has may be a user name.
        for path in ("emails.value", "userName"):
            unique = {"UniqueAttribute": {"AttributePath": path, "AttributeValue": address}}
            try:
                found = identities.get_user_id(IdentityStoreId=store, AlternateIdentifier=unique)
            except identities.exceptions.ResourceNotFoundException:
                continue
            ids.append(f"person/{found['UserId']}")
            break
    return ids


def live_grants(dynamodb: Any, name: str, groups: Iterable[str], beneficiaries: Iterable[str]) -> Iterator[str]:
    """Live grants that were asked for or approved at a door, or that belong to its person, each with its revoke.

    A grant concerns the door if it is for one of the door's principals, or if it was asked for or approved at the door
    or at the door of a group to which it belongs. The ledger does not say which member of the group came.
    """
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    # As for temp-access, names and addresses are unique without regard to case.
    own = {one.casefold() for one in beneficiaries}
    pages = dynamodb.get_paginator("query").paginate(
        TableName=LEDGER,
        KeyConditionExpression="pk = :grants",
        ExpressionAttributeValues={":grants": {"S": "grant"}},
    )
    for row in (row for page in pages for row in page["Items"]):
        key = row["sk"]["S"]
        try:
            kind, principal, profile = key.split("/", 2)
            end, state = row["end"]["S"], row["state"]["S"]
        except (KeyError, ValueError):
            yield f'the ledger\'s row {key} can\'t be read: look with {{"action":"list"}} whether it concerns this door'
            continue
        identity, principal = principal, row.get("email", {}).get("S", principal)
        consent = row.get("consent", {}).get("M", {})
        doors = {consent.get(one, {}).get("S") for one in ("door", "approved_by")}
        if state not in ("intent", "granted") or end <= now:
            continue
        is_own = name in doors or any(f"{kind}/{one}".casefold() in own for one in (identity, principal))
        shared = sorted(doors & set(groups))
        if is_own or shared:
            request = f'{{"action":"revoke","{kind}":"{principal}"}}'
            through = "" if is_own else f" through the door of {' and '.join(shared)}, perhaps by {name}"
            yield f"{kind} {principal} has {profile} until {end}{through}. To end it: {FUNCTION} {request}"


def main(arguments: list[str]) -> None:
    """Parses the command line, and runs the command."""
    parser = argparse.ArgumentParser(prog="make person", description="Makes or removes a person's door of temp-access")
    parser.add_argument("--env", required=True, metavar="ENV")
    parser.add_argument("--profile", help="of an administrator; else the environment's own")
    parser.add_argument("--name", required=True, help="the door, as under [access.people]")
    parser.add_argument("--prepare", help="user/NAME or role/NAME, which temp-access may then let in")
    parser.add_argument("--remove", action="store_true", help="remove the door")
    asked = parser.parse_args(arguments)
    try:
        check_name(asked.name)
        target = environment(asked.env, asked.profile)
        print(f"Door {FUNCTION}:{asked.name} in account {target.account}, {target.region}:", flush=True)
        if asked.remove:
            remove_person(target, asked.name)
        else:
            make_person(target, asked.name, asked.prepare)
    except ClientError as error:
        sys.exit(f"The door is not complete. {error}{advice(error, f'make person NAME={asked.name}', asked.env)}")
    except WaiterError as error:
        sys.exit(f"The door is not complete. The events of stack sekisho-door-{asked.name} name the reason. {error}")
    except (Failure, BotoCoreError) as error:
        sys.exit(f"Not done. {error}")


def advice(error: ClientError, command: str, env: str) -> str:
    """Whom to ask, if the credentials may not do it."""
    if error.response["Error"]["Code"] not in ("AccessDenied", "AccessDeniedException"):
        return ""
    return (
        "\nThe role for deployment may not make doors, by design. An administrator of the account can: "
        f"{command} ENV={env} PROFILE=(their profile in ~/.aws/config)"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
