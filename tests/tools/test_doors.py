"""`make person` makes a door that only its role opens, puts it right, and removes it with its role and mappings."""

import dataclasses
import json
from unittest.mock import Mock

import pytest
from botocore.exceptions import ClientError

from local_cloud.organization import MANAGEMENT
from tests.local_cloud.accounts import document
from tests.tools.door_helpers import (
    ANYTHING,
    FUNCTION,
    GROUP,
    HANA,
    PEOPLE,
    choose,
    delete_users,
    doors,
    is_denied,
    users,
)
from tests.tools.faults import T
from tests.tools.test_commands import make_would_run
from tools.failure import Failure
from tools.layout import IDENTITY_STORE, LEDGER, REGION
from tools.operations import hub, people, person
from tools.operations.doors import WAIT, Doors, policy, same
from tools.operations.slack_roles import SlackRoles


def test_a_door_has_its_role_its_policy_and_its_limit_and_a_second_run_changes_nothing(cloud, access, capsys):
    person.make_person(access, "hana", None)
    first = capsys.readouterr().out
    assert "created  stack sekisho-door-hana" in first and "created  alias hana of temp-access" in first
    assert f"chooses account {T}, and then the role sekisho-door-hana-{REGION}" in first
    assert "[access.people.hana]" in first
    assert "--function-name temp-access:hana" in first and "--function-name temp-access --qualifier hana" in first
    found = doors(cloud, access)
    assert found.versions["hana"] == "$LATEST"
    assert same(found.policy("hana"), policy(f"{FUNCTION}:hana", HANA))
    assert found.wait("hana") == WAIT == {"MaximumEventAgeInSeconds": 60, "MaximumRetryAttempts": 0}
    role = cloud.client(T, "iam").get_role(RoleName=f"sekisho-door-hana-{REGION}")["Role"]
    assert role["AssumeRolePolicyDocument"]["Statement"][0]["Principal"] == {"Service": "chatbot.amazonaws.com"}

    stacks = cloud.client(T, "cloudformation")
    before = len(stacks.describe_stack_events(StackName="sekisho-door-hana")["StackEvents"])
    person.make_person(access, "hana", None)
    assert "Nothing to change: door hana is as it should be." in capsys.readouterr().out
    assert len(stacks.describe_stack_events(StackName="sekisho-door-hana")["StackEvents"]) == before
    person.remove_person(access, "hana")


@pytest.mark.usefixtures("hana")
def test_nobody_but_the_role_comes_through_in_either_spelling(cloud):
    iam = cloud.client(T, "iam")
    anyone = users(
        cloud, power=ANYTHING, near={**ANYTHING, "Action": "lambda:InvokeFunction", "Resource": f"{FUNCTION}:*"}
    )
    # Chatbot alone may assume the role. For this test, so may the account.
    trust = {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{T}:root"}, "Action": "sts:AssumeRole"}
    iam.update_assume_role_policy(RoleName=HANA.rpartition("/")[2], PolicyDocument=document([trust]))
    given = cloud.client(T, "sts").assume_role(RoleArn=HANA, RoleSessionName="hana")["Credentials"]
    own = cloud.client(T, "lambda")
    own._request_signer._credentials.access_key = given["AccessKeyId"]
    own._request_signer._credentials.secret_key = given["SecretAccessKey"]
    own._request_signer._credentials.token = given["SessionToken"]
    try:
        for spelled in ({"FunctionName": "temp-access:hana"}, {"FunctionName": "temp-access", "Qualifier": "hana"}):
            for name, client in anyone.items():
                assert is_denied(client, **spelled), name
                assert is_denied(client, InvocationType="Event", **spelled), name
            assert not is_denied(own, **spelled)
        assert is_denied(own, FunctionName="temp-access:$LATEST")
        assert is_denied(own, FunctionName="temp-access:board")
        assert not is_denied(own, FunctionName="temp-access")
    finally:
        delete_users(cloud, "power", "near")


def test_what_was_changed_by_hand_is_put_right(cloud, hana, capsys):
    functions = cloud.client(T, "lambda")
    number = functions.publish_version(FunctionName="temp-access")["Version"]
    functions.update_alias(FunctionName="temp-access", Name="hana", FunctionVersion=number)
    open_to_all = policy(f"{FUNCTION}:hana", HANA)
    del open_to_all["Statement"][1]
    functions.put_resource_policy(ResourceArn=f"{FUNCTION}:hana", Policy=json.dumps(open_to_all))
    functions.delete_function_event_invoke_config(FunctionName="temp-access", Qualifier="hana")
    flaws = list(doors(cloud, hana).flaws("hana", HANA))
    assert [flaw.opens for flaw in flaws] == [True, False, False]
    person.make_person(hana, "hana", None)
    output = capsys.readouterr().out
    assert output.count("  changed  ") == 3, output
    assert list(doors(cloud, hana).flaws("hana", HANA)) == []
    functions.delete_function(FunctionName="temp-access", Qualifier=number)


def test_an_alias_without_its_policy_is_not_left_behind(cloud, access, monkeypatch):
    def refuse(*_):
        raise Failure("refused")

    found = doors(cloud, access)
    monkeypatch.setattr(Doors, "_close", refuse)
    with pytest.raises(Failure, match="refused"):
        list(found.create("taro", found.role("taro")))
    assert "taro" not in doors(cloud, access).versions


def test_an_open_alias_that_can_not_be_removed_is_named(cloud, access, monkeypatch):
    def refuse(*_, **__):
        raise ClientError({"Error": {"Code": "TooManyRequestsException", "Message": "slow down"}}, "DeleteAlias")

    found = doors(cloud, access)
    with monkeypatch.context() as patch:
        refuse_policies(patch, found._functions)
        patch.setattr(found._functions, "delete_alias", refuse)
        with pytest.raises(Failure, match="Alias taro of temp-access is open: delete it") as failed:
            list(found.create("taro", found.role("taro")))
    assert "lambda:InvokeAsync is not valid" in str(failed.value) and "slow down" in str(failed.value)
    cloud.client(T, "lambda").delete_alias(FunctionName="temp-access", Name="taro")


def refuse_policies(monkeypatch, functions):
    """Lambda refuses each policy from now on, because of one of its actions."""
    message = "The provided action lambda:InvokeAsync is not valid for the resource."

    def refuse(**_):
        raise ClientError(
            {"Error": {"Code": "InvalidParameterValueException", "Message": message}}, "PutResourcePolicy"
        )

    monkeypatch.setattr(functions, "put_resource_policy", refuse)


def test_a_policy_that_lambda_refuses_leaves_the_door_closed_and_the_message_says_what_to_do(
    cloud, access, hana, monkeypatch, capsys
):
    found = doors(cloud, access)
    with monkeypatch.context() as patch:
        refuse_policies(patch, found._functions)
        with pytest.raises(Failure) as failed:
            list(found.create("taro", found.role("taro")))
    told = str(failed.value)
    assert "lambda:InvokeAsync is not valid" in told and "alias taro is removed, so nobody comes through" in told
    assert "docs/deploy.md#when-lambda-refuses-the-policy-of-a-door" in told and "make smoke ENV=test" in told
    assert "taro" not in doors(cloud, access).versions

    # An alias that has lost its policy is open, and the refused policy can't close it.
    functions = cloud.client(T, "lambda")
    functions.delete_resource_policy(ResourceArn=f"{FUNCTION}:hana")
    found = doors(cloud, access)
    with monkeypatch.context() as patch:
        refuse_policies(patch, found._functions)
        with pytest.raises(Failure, match="alias hana is removed, so nobody comes through"):
            list(found.create("hana", HANA))
    assert "hana" not in doors(cloud, access).versions
    person.make_person(hana, "hana", None)
    assert "created  alias hana" in capsys.readouterr().out

    # An alias with another policy may be in use, and keeps it.
    older = policy(f"{FUNCTION}:hana", HANA)
    older["Statement"][1]["Action"] = "lambda:InvokeFunction"
    functions.put_resource_policy(ResourceArn=f"{FUNCTION}:hana", Policy=json.dumps(older))
    found = doors(cloud, access)
    with monkeypatch.context() as patch:
        refuse_policies(patch, found._functions)
        with pytest.raises(Failure, match="alias hana keeps the policy that it has: make doctor ENV=test"):
            list(found.create("hana", HANA))
    assert same(doors(cloud, access).policy("hana"), older)


def test_a_principal_is_prepared_and_a_user_that_is_missing_is_created(cloud, access, capsys):
    iam = cloud.client(T, "iam")
    iam.create_user(UserName="prd-taro")
    boundary = f"arn:aws:iam::{T}:policy/sekisho-access-boundary"
    person.make_person(access, "taro", "user/prd-taro")
    person.make_person(access, "hana", "user/prd-hana")
    output = capsys.readouterr().out
    assert "created  stack sekisho-door-taro\n" in output
    assert "created  stack sekisho-door-hana, with user prd-hana" in output
    assert 'for         = ["user/prd-hana"]' in output
    for name in ("prd-taro", "prd-hana"):
        user = iam.get_user(UserName=name)["User"]
        assert user["PermissionsBoundary"]["PermissionsBoundaryArn"] == boundary
        assert {"Key": "sekisho:access", "Value": "grantable"} in iam.list_user_tags(UserName=name)["Tags"]
    # Without PREPARE, the stack keeps its user.
    person.make_person(access, "hana", None)
    assert "Nothing to change" in capsys.readouterr().out
    for name in ("hana", "taro"):
        person.remove_person(access, name)
        assert iam.get_user(UserName=f"prd-{name}")
        iam.delete_user_permissions_boundary(UserName=f"prd-{name}")
        iam.delete_user(UserName=f"prd-{name}")


@pytest.mark.parametrize("text", ["prd-hana", "person/hana@example.com", "user/"])
def test_what_can_not_be_prepared_is_refused_before_anything_is_made(cloud, access, text):
    with pytest.raises(Failure, match="neither user/NAME nor role/NAME"):
        person.make_person(access, "hana", text)
    assert "hana" not in doors(cloud, access).versions


@pytest.mark.parametrize("name", ["board", "hub", "Hana", "7", "x.", "a" * 33, "a_b", "hana\n"])
def test_a_name_that_no_door_may_have_is_refused(name, capsys):
    with pytest.raises(SystemExit) as ended:
        person.main(["--env", "production", "--name", name])
    assert "is no name of a door" in str(ended.value.code)
    assert capsys.readouterr().out == ""


def test_an_account_that_grants_no_access_has_no_doors():
    for command in (person.main, people.main, hub.main):
        with pytest.raises(SystemExit) as ended:
            command(["--env", "repository", *(["--name", "hana"] if command is person.main else [])])
        assert "grants no access" in str(ended.value.code)


def test_an_administrator_makes_doors_and_the_deploy_role_is_told_whom_to_ask(
    access, config_of_deployer, capsys, monkeypatch
):
    for command in (person, people, hub):
        monkeypatch.setattr(command, "environment", lambda *_: access)
    with monkeypatch.context() as patch:
        patch.setenv("AWS_CONFIG_FILE", str(config_of_deployer))
        for command, words, again in (
            (person, ["--name", "hana"], "make person NAME=hana ENV=test PROFILE=("),
            (hub, ["--account", "333333333333"], "make hub ENV=test PROFILE=("),
        ):
            with pytest.raises(SystemExit) as ended:
                command.main(["--env", "test", *words])
            told = str(ended.value.code)
            assert "The door is not complete." in told and again in told
    capsys.readouterr()
    person.main(["--env", "test", "--name", "hana"])
    assert f"Door temp-access:hana in account {T}, {REGION}:\n  created" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        people.main(["--env", "test"])
    assert ended.value.code == 0 and "unused  hana" in capsys.readouterr().out
    person.main(["--env", "test", "--name", "hana", "--remove"])
    assert "removed  alias hana" in capsys.readouterr().out


def grant(cloud, key, end, state="granted", email=None, **consent):
    """Writes the ledger's row of a grant, and returns the function that deletes it."""
    table, keys = cloud.client(T, "dynamodb"), {"pk": {"S": "grant"}, "sk": {"S": key}}
    given = {"consent": {"M": {name: {"S": text} for name, text in consent.items()}}} if consent else {}
    given |= {"email": {"S": email}} if email else {}
    table.put_item(TableName=LEDGER, Item=keys | {"state": {"S": state}, "end": {"S": end}} | given)
    return lambda: table.delete_item(TableName=LEDGER, Key=keys)


def test_a_removed_person_has_neither_alias_nor_role_nor_mapping_and_live_grants_are_named(
    cloud, access, configured, capsys
):
    configured(PEOPLE + GROUP + GROUP.replace("approvers", "crew"))
    person.make_person(access, "hana", None)
    choose(cloud, "U0HANA", HANA)
    choose(cloud, "U0TARO", f"arn:aws:iam::{T}:role/other")
    choose(cloud, "U0SOMEBODY", HANA.replace("hana", "crew"))
    late, early = "2099-01-01T00:00:00Z", "2020-01-01T00:00:00Z"
    rows = [
        grant(cloud, "user/prd-hana/admin", late),
        grant(cloud, "user/asked/admin", late, door="hana"),
        grant(cloud, "role/approved/admin", late, door="taro", approved_by="hana"),
        grant(cloud, "user/prd-hana/read-only", early, door="hana"),
        grant(cloud, "user/revoked/admin", late, state="revoked", door="hana"),
        grant(cloud, "user/PRD-Hana/other", late),
        grant(cloud, "user/others/admin", late, door="taro"),
        grant(cloud, "user/shared/admin", late, door="taro", approved_by="approvers"),
        grant(cloud, "unreadable", late),
    ]
    capsys.readouterr()
    try:
        person.remove_person(access, "hana")
    finally:
        for delete in rows:
            delete()
    output = capsys.readouterr().out
    for line in ("alias hana of temp-access", "the mapping of U0HANA of workspace T0LOCAL", "stack sekisho-door-hana"):
        assert f"removed  {line}" in output
    assert "take hana out of [access.people.hana] and members of [access.people.approvers] and members of" in output
    ways = [line for line in output.splitlines() if "comes through the door" in line]
    assert (
        len(ways) == 1 and "U0SOMEBODY of workspace" in ways[0] and "the door crew: if that is hana, unmap" in ways[0]
    )
    named = [line for line in output.splitlines() if "To end it:" in line]
    assert [line.split()[1:5] for line in named] == [
        ["role", "approved", "has", "admin"],
        ["user", "PRD-Hana", "has", "other"],
        ["user", "asked", "has", "admin"],
        ["user", "prd-hana", "has", "admin"],
        ["user", "shared", "has", "admin"],
    ]
    assert "through the door of approvers, perhaps by hana. To end it:" in named[4]
    assert "the ledger's row unreadable can't be read" in output
    # A revoke ends all profiles, so temp-access refuses one that names a profile.
    assert named[2].endswith('To end it: temp-access {"action":"revoke","user":"asked"}')
    assert "hana" not in doors(cloud, access).versions
    iam = cloud.client(T, "iam")
    with pytest.raises(iam.exceptions.NoSuchEntityException):
        iam.get_role(RoleName=f"sekisho-door-hana-{REGION}")
    left = {one.user for one in SlackRoles(access.session().client).mappings()}
    assert "U0TARO" in left and "U0HANA" not in left
    with_channel = dataclasses.replace(access, parameters=access.parameters | {"ApproverSlackChannelId": "C0APPROVERS"})
    person.remove_person(with_channel, "hana")
    output = capsys.readouterr().out
    assert "Nothing to remove" in output and "take hana out of the approvers' channel" in output
    # An alias of the same name starts without the old policy and settings.
    cloud.client(T, "lambda").create_alias(FunctionName="temp-access", Name="hana", FunctionVersion="$LATEST")
    found = doors(cloud, access)
    assert (found.policy("hana"), found.wait("hana")) == (None, {})
    assert "removed  alias hana" in "".join(found.remove("hana"))


def test_the_spelling_of_a_policy_does_not_matter_but_its_meaning_does():
    wanted = policy(f"{FUNCTION}:hana", HANA)
    spelled = json.loads(json.dumps(wanted))
    spelled["Statement"].reverse()
    for statement in spelled["Statement"]:
        statement["Resource"] = [statement["Resource"]]
        statement.pop("Sid")
    assert same(spelled, wanted)
    for number, key, value in (
        (1, "Action", "lambda:InvokeFunction"),
        (1, "Condition", {"StringNotEquals": {"aws:PrincipalArn": [HANA, f"{HANA}2"]}}),
        (0, "Condition", {"StringLike": {"aws:PrincipalArn": HANA}}),
        (1, "Effect", "Allow"),
    ):
        other = json.loads(json.dumps(wanted))
        other["Statement"][number][key] = value
        assert not same(other, wanted), (key, value)


def test_make_passes_on_what_the_commands_need():
    given = ("ENV=test", "NAME=hana", "PREPARE=user/prd-hana", "PROFILE=admin")
    made = make_would_run("person", *given)
    assert '--name "hana"' in made and '--prepare "user/prd-hana"' in made and "--remove" not in made
    assert "--remove" in make_would_run("person", "ENV=test", "NAME=hana", "REMOVE=1")
    assert "--remove" not in make_would_run("person", "ENV=test", "NAME=hana", REMOVE="1")
    assert '--account "333333333333"' in make_would_run("hub", "ENV=test", "ACCOUNT=333333333333")


def test_a_live_grant_under_another_name_of_the_person_is_named(cloud, access, configured, capsys, monkeypatch):
    store = cloud.client(MANAGEMENT, "identitystore")
    user = store.create_user(
        IdentityStoreId=IDENTITY_STORE,
        UserName="hana",
        DisplayName="hana",
        Emails=[{"Value": "hana@example.com", "Type": "work", "Primary": True}],
    )["UserId"]
    configured(PEOPLE.replace("user/prd-hana", "person/hana@example.com"))
    late = "2099-01-01T00:00:00Z"
    rows = [
        # Both were asked for at another door, under user names.
        grant(cloud, f"person/{user}/admin", late, email="hana", door="taro"),
        grant(cloud, "person/another-id/admin", late, email="taro", door="taro"),
    ]
    parameters = {"IdentityStoreId": IDENTITY_STORE, "IdentityCenterRegion": REGION}
    target = dataclasses.replace(access, parameters=access.parameters | parameters)
    try:
        person.remove_person(target, "hana")
        output = capsys.readouterr().out
        named = [line for line in output.splitlines() if "To end it:" in line]
        assert len(named) == 1 and named[0].endswith('{"action":"revoke","person":"hana"}'), output
        refused = ClientError({"Error": {"Code": "AccessDeniedException", "Message": "no"}}, "GetUserId")
        monkeypatch.setattr(person, "user_ids", Mock(side_effect=refused))
        person.remove_person(target, "hana")
        assert "look for live grants of hana under another address" in capsys.readouterr().out
    finally:
        for delete in rows:
            delete()
        store.delete_user(IdentityStoreId=IDENTITY_STORE, UserId=user)
