"""`make people` and `make doctor` list the doors and whoever could come through, and `make hub` lets one account in."""

import dataclasses
import json

import pytest
from botocore.exceptions import ClientError

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
from tests.tools.faults import R, T
from tools.failure import Failure
from tools.layout import REGION
from tools.operations import doctor, hub, person
from tools.operations.account import Account
from tools.operations.door_report import DoorReport
from tools.operations.doors import Doors, hub_role, policy, same
from tools.operations.environment import environment


def shown(access, capsys):
    """Whether all doors are in order, and the text about them."""
    capsys.readouterr()
    return DoorReport(Account(access)).show(), capsys.readouterr().out


def test_a_door_in_order_is_listed_with_its_configuration_and_its_members(cloud, hana, configured, capsys):
    assert shown(hana, capsys)[0], "an alias that is not configured is refused by temp-access"
    configured(PEOPLE)
    right, output = shown(hana, capsys)
    assert right, output
    assert "holds   hana: may ask admin; for user/prd-hana; may approve admin" in output
    assert "Nobody is mapped to its role in Slack" in output
    choose(cloud, "U0HANA", HANA)
    choose(cloud, "U0ADMIN", f"arn:aws:iam::{T}:role/admin")
    right, output = shown(hana, capsys)
    assert right and f"Mapped in Slack: U0HANA of workspace T0LOCAL in sekisho-{T}-{REGION}" in output
    assert f"Mapped in Slack to arn:aws:iam::{T}:role/admin: U0ADMIN" in output


def test_a_member_with_two_doors_and_a_door_with_two_members_are_reported(cloud, hana, configured, capsys):
    team_of = PEOPLE + PEOPLE.replace("hana", "taro") + PEOPLE.replace(".hana", ".team") + "members = {}\n"
    configured(team_of.format('["hana", "taro"]'))
    taro, team = (doors(cloud, hana).role(name) for name in ("taro", "team"))
    for name in ("taro", "team"):
        person.make_person(hana, name, None)
    try:
        choose(cloud, "U0HANA", HANA)
        choose(cloud, "U0TARO", taro)
        choose(cloud, "U0HANA", team, channel="other")
        choose(cloud, "U0TARO", team, channel="other")
        right, output = shown(hana, capsys)
        assert right, output
        choose(cloud, "U0HANA", taro, channel="third")
        right, output = shown(hana, capsys)
        configured(team_of.format('["hana"]'))
        _, stranger = shown(hana, capsys)
    finally:
        for name in ("taro", "team"):
            person.remove_person(hana, name)
    assert not right
    assert "U0HANA of workspace T0LOCAL is mapped to the doors of hana and taro, and could approve alone" in output
    assert "the door of taro is mapped by U0HANA of workspace T0LOCAL and U0TARO of workspace T0LOCAL" in output
    assert "the group" not in output
    assert "U0TARO of workspace T0LOCAL is mapped to the door of the group team, which does not have taro" in stranger


def test_a_member_with_two_groups_without_a_common_member_is_reported(cloud, hana, configured, capsys):
    group = '[access.people.{}]\nmembers = ["{}"]\nmay_approve = ["admin"]\n'
    taro = PEOPLE.replace("hana", "taro")
    configured(PEOPLE + taro + group.format("one", "hana") + group.format("two", "taro"))
    for name in ("taro", "one", "two"):
        person.make_person(hana, name, None)
    try:
        for name in ("one", "two"):
            choose(cloud, "U0ANYBODY", doors(cloud, hana).role(name), channel=name)
        right, output = shown(hana, capsys)
        configured(PEOPLE + taro + group.format("one", "hana") + group.format("two", 'taro", "hana'))
        fits, _ = shown(hana, capsys)
    finally:
        for name in ("taro", "one", "two"):
            person.remove_person(hana, name)
    assert not right and fits
    assert "is mapped to the doors of the groups one and two, which have no member in common" in output


def test_a_door_without_its_policy_is_named_with_everybody_who_could_come_through(cloud, hana, configured, capsys):
    configured(PEOPLE)
    all_but_iam = {"Effect": "Allow", "NotAction": "iam:*", "Resource": "*"}
    only_the_channel = {"Effect": "Allow", "Action": "lambda:InvokeFunction", "Resource": FUNCTION}
    users(cloud, power=all_but_iam, near=only_the_channel)
    functions = cloud.client(T, "lambda")
    try:
        functions.delete_resource_policy(ResourceArn=f"{FUNCTION}:hana")
        right, output = shown(hana, capsys)
        assert not right
        assert "BROKEN  hana:" in output and "Problem: alias hana has no resource policy" in output
        assert f"Could come through: arn:aws:iam::{T}:user/power" in output
        assert "user/near" not in output and f"Could come through: {HANA}" not in output
        assert "Fix: make person NAME=hana ENV=test PROFILE=…" in output
        # Another policy: a whole account may come through, and the users of this account may not.
        other = policy(f"{FUNCTION}:hana", HANA)
        other["Statement"][0] |= {"Principal": {"AWS": f"arn:aws:iam::{R}:root"}}
        del other["Statement"][0]["Condition"]
        other["Statement"][1]["Condition"] = {"StringNotEquals": {"aws:PrincipalAccount": R}}
        functions.put_resource_policy(ResourceArn=f"{FUNCTION}:hana", Policy=json.dumps(other))
        right, output = shown(hana, capsys)
        assert not right and f"Could come through: arn:aws:iam::{R}:root" in output
        assert "user/power" not in output
    finally:
        delete_users(cloud, "power", "near")


def test_the_deploy_role_sees_all_of_that(cloud, hana, configured, config_of_deployer, capsys, monkeypatch):
    configured(PEOPLE)
    with monkeypatch.context() as patch:
        patch.setenv("AWS_CONFIG_FILE", str(config_of_deployer))
        right, output = shown(hana, capsys)
        assert right, output
        users(cloud, power=ANYTHING)
        cloud.client(T, "lambda").delete_resource_policy(ResourceArn=f"{FUNCTION}:hana")
        right, output = shown(hana, capsys)
        delete_users(cloud, "power")
    assert not right and f"Could come through: arn:aws:iam::{T}:user/power" in output
    assert "Can't tell" not in output and "UNCLEAR" not in output


def test_doctor_checks_the_doors_after_the_path(hana, configured, capsys, monkeypatch):
    configured(PEOPLE)
    monkeypatch.setattr(doctor, "environment", lambda name: hana if name == "test" else environment(name))
    assert doctor.doctor("test")
    path, _, door = capsys.readouterr().out.partition(f"The doors of temp-access in account {T}:")
    assert "10. holds" in path and "holds   hana:" in door
    monkeypatch.setattr(doctor, "check", lambda _: False)
    assert not doctor.doctor("test")
    assert "holds   hana:" in capsys.readouterr().out
    alone = dataclasses.replace(hana, parameters={"GrantsAccess": "true"})
    monkeypatch.setattr(doctor, "environment", lambda _: alone)
    assert doctor.doctor("test")
    assert capsys.readouterr().out.startswith("The doors of temp-access")
    neither = dataclasses.replace(hana, parameters={})
    monkeypatch.setattr(doctor, "environment", lambda _: neither)
    with pytest.raises(Failure, match="hosts no pipelines and grants no access"):
        doctor.doctor("test")


def test_whoever_may_assume_the_role_besides_chatbot_is_named(cloud, hana, configured, capsys):
    configured(PEOPLE)
    trust = {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{R}:root"}, "Action": "sts:AssumeRole"}
    cloud.client(T, "iam").update_assume_role_policy(
        RoleName=f"sekisho-door-hana-{REGION}", PolicyDocument=document([trust])
    )
    right, output = shown(hana, capsys)
    assert not right
    assert f"Could come through: arn:aws:iam::{R}:root, which may assume sekisho-door-hana-{REGION}" in output


def test_a_configured_door_that_is_missing_is_named(access, configured, capsys):
    configured(PEOPLE)
    right, output = shown(access, capsys)
    assert not right
    assert "Problem: temp-access has no alias hana" in output and f"Problem: role {HANA} does not exist" in output


def test_the_door_of_the_approvers_is_closed_until_they_have_a_channel(cloud, hana, configured, capsys):
    """Whoever may create roles could otherwise create the one that the door lets in."""
    configured(PEOPLE + GROUP)
    role, arn = f"arn:aws:iam::{T}:role/sekisho-door-approvers-{REGION}", f"{FUNCTION}:approvers"
    with_channel = dataclasses.replace(hana, parameters=hana.parameters | {"ApproverSlackChannelId": "C0APPROVERS"})
    try:
        person.make_person(hana, "approvers", None)
        output = capsys.readouterr().out
        assert "created  alias approvers of temp-access, with a resource policy that lets in nobody" in output
        assert "stack" not in output.split("Next:")[0] and "this door is closed" in output
        right, output = shown(hana, capsys)
        assert right and "Closed: ApproverSlackChannelId is not set, so nobody comes through." in output
        power = users(cloud, power=ANYTHING)["power"]
        assert is_denied(power, FunctionName="temp-access", Qualifier="approvers")
        right, output = shown(with_channel, capsys)
        assert not right
        assert f"the resource policy of alias approvers is not the one that lets in only {role}" in output
        assert f"Problem: role {role} does not exist until make deploy ENV=test" in output
        person.make_person(with_channel, "approvers", None)
        output = capsys.readouterr().out
        assert f"changed  resource policy of alias approvers: it lets in only {role}" in output
        assert same(doors(cloud, hana).policy("approvers"), policy(arn, role))
        # Without the channel, its role is gone, and so the door must be closed again.
        right, output = shown(hana, capsys)
        assert not right and "is not the one that lets in nobody" in output
    finally:
        person.remove_person(hana, "approvers")
        delete_users(cloud, "power")


def test_a_denied_question_is_reported_as_open(access, capsys, monkeypatch):
    def deny(*_):
        raise ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "ListAliases")

    monkeypatch.setattr(Doors, "names", property(deny))
    right, output = shown(access, capsys)
    assert not right and "UNCLEAR which doors there are" in output


def test_the_hub_lets_in_only_the_other_accounts_temp_access(cloud, access, capsys):
    hub.make_hub(access, "333333333333", None)
    output = capsys.readouterr().out
    role = hub_role("333333333333", REGION)
    assert f"lets in only {role}" in output and '"HubAccountId=333333333333"' in output
    assert f'test = "{T}/{REGION}"' in output
    assert same(doors(cloud, access).policy("hub"), policy(f"{FUNCTION}:hub", role))
    hub.make_hub(access, "333333333333", None)
    assert "Nothing to change" in capsys.readouterr().out
    set_up = dataclasses.replace(access, parameters=access.parameters | {"HubAccountId": "333333333333"})
    right, output = shown(set_up, capsys)
    assert right and "holds   hub: hands on the requests of account 333333333333" in output
    right, output = shown(access, capsys)
    assert right and "unused  hub: HubAccountId is not set" in output
    # Whoever may create roles in the hub account could create the one of another region.
    with pytest.raises(Failure, match=f"REGION=eu-west-1 contradicts samconfig.toml.*in {REGION}"):
        hub.make_hub(set_up, None, "eu-west-1")
    functions, elsewhere = cloud.client(T, "lambda"), policy(f"{FUNCTION}:hub", hub_role("333333333333", "eu-west-1"))
    wide = policy(f"{FUNCTION}:hub", hub_role("333333333333", "*"))
    wide["Statement"][0]["Condition"] = {"StringLike": wide["Statement"][0]["Condition"]["StringEquals"]}
    for wrong in (elsewhere, wide):
        functions.put_resource_policy(ResourceArn=f"{FUNCTION}:hub", Policy=json.dumps(wrong))
        right, output = shown(set_up, capsys)
        assert not right and f"is not the one that lets in only {role}" in output, output
        assert "Fix: make hub ENV=test PROFILE=…" in output
        hub.make_hub(set_up, None, REGION)
        assert shown(set_up, capsys)[0]
    hub.remove_hub(set_up)
    assert "remove HubAccountId of test" in capsys.readouterr().out
    assert "hub" not in doors(cloud, access).versions


def test_the_region_of_a_hub_that_samconfig_does_not_have_must_be_named(cloud, access, capsys):
    with pytest.raises(
        Failure, match="555555555555 grants access in a region that is not known: name the region with REGION=…"
    ):
        hub.make_hub(access, "555555555555", None)
    assert "hub" not in doors(cloud, access).versions
    set_up = dataclasses.replace(access, parameters=access.parameters | {"HubAccountId": "555555555555"})
    hub.make_hub(set_up, None, "eu-west-1")
    try:
        role = hub_role("555555555555", "eu-west-1")
        assert same(doors(cloud, access).policy("hub"), policy(f"{FUNCTION}:hub", role))
        assert shown(set_up, capsys)[0]
        hub.make_hub(set_up, None, None)
        assert "Nothing to change" in capsys.readouterr().out, "the door says which region was named"
    finally:
        hub.remove_hub(set_up)


def test_a_hub_that_grants_access_in_two_regions_is_one_of_them(monkeypatch):
    monkeypatch.setattr(hub, "regions_of_hub", lambda _: ["eu-west-1", "us-east-1"])
    for region, admitted in (("us-east-1", None), (None, "us-east-1"), ("us-east-1", "eu-west-1")):
        assert hub.region_of("555555555555", region, admitted) == "us-east-1"
    for region, admitted, part in (
        (None, None, "in eu-west-1 and us-east-1: name the region with REGION=…"),
        (None, "ap-south-1", "name the region with REGION=…"),
        ("ap-south-1", "ap-south-1", "REGION=ap-south-1 contradicts samconfig.toml"),
    ):
        with pytest.raises(Failure, match=part):
            hub.region_of("555555555555", region, admitted)


@pytest.mark.parametrize(
    ("account", "configured_account", "part"),
    [
        (None, None, "name it with ACCOUNT=…"),
        ("33333333333", None, "not an account id of 12 digits"),
        (T, None, "answers its own requests"),
        ("333333333333", "444444444444", "contradicts HubAccountId=444444444444"),
    ],
)
def test_a_hub_that_can_not_be_is_refused(account, configured_account, part):
    found = environment("test")
    parameters = found.parameters | ({"HubAccountId": configured_account} if configured_account else {})
    with pytest.raises(Failure) as failure:
        hub.hub_of(dataclasses.replace(found, parameters=parameters), account)
    assert part in str(failure.value)
