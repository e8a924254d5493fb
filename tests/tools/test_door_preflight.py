"""`make deploy` refuses a configuration that names a door before the door exists, and a hub without its alias."""

import dataclasses
import json

import pytest

from tests.tools.door_helpers import FUNCTION, GROUP, HANA, PEOPLE, doors
from tests.tools.faults import T
from tools.layout import CONFIG
from tools.operations import door_preflight, hub, person
from tools.operations import preflight as checks
from tools.operations.deployment import Deployment, Unknown
from tools.operations.doors import policy
from tools.operations.environment import environment

HUB = "333333333333"


@pytest.fixture
def names(tmp_path, monkeypatch):
    """Returns a function that adds a text to the configuration that is about to be deployed."""

    def name(text):
        file = tmp_path / "next.toml"
        file.write_text(CONFIG.read_text() + text)
        monkeypatch.setattr(door_preflight, "CONFIG", file)

    return name


def with_parameters(target, **parameters):
    return dataclasses.replace(target, parameters=target.parameters | parameters)


def found(target):
    return [(one.blocks, one.text, one.fix) for one in door_preflight.doors_exist(Deployment(target))]


def test_a_door_must_exist_before_it_is_configured(cloud, access, names):
    names(PEOPLE)
    ((blocks, text, fix),) = found(access)
    assert blocks and f"[access.people.hana] needs the door temp-access:hana of account {T}" in text
    assert text.endswith("temp-access has no alias hana")
    assert fix == "make person NAME=hana ENV=test PROFILE=…"
    person.make_person(access, "hana", None)
    try:
        assert found(access) == []
        functions, arn = cloud.client(T, "lambda"), f"{FUNCTION}:hana"
        functions.delete_resource_policy(ResourceArn=arn)
        ((blocks, text, _),) = found(access)
        assert blocks and "has no resource policy" in text
        functions.put_resource_policy(ResourceArn=arn, Policy=json.dumps(policy(arn, f"{HANA}2")))
        ((blocks, text, _),) = found(access)
        assert blocks and "is not the one that lets in only" in text
    finally:
        person.remove_person(access, "hana")


def test_a_door_needs_its_role(cloud, access, names):
    """Whoever may create roles could otherwise create the one that the door lets in."""
    names(PEOPLE)
    opened = doors(cloud, access)
    list(opened.create("hana", HANA))
    try:
        ((blocks, text, fix),) = found(access)
        assert blocks and text.endswith(f"role {HANA} does not exist, so whoever may create roles could come through")
        assert fix == "make person NAME=hana ENV=test PROFILE=…"
    finally:
        list(opened.remove("hana"))


def test_the_door_of_the_approvers_is_closed_without_their_channel(access, names):
    names(GROUP.replace('"hana"', ""))
    with_channel = with_parameters(access, ApproverSlackChannelId="C0APPROVERS")
    person.make_person(access, "approvers", None)
    try:
        assert found(access) == []
        ((blocks, text, _),) = found(with_channel)
        assert blocks and "is not the one that lets in only" in text
        person.make_person(with_channel, "approvers", None)
        # The deployment creates the role.
        assert found(with_channel) == []
        ((blocks, text, _),) = found(access)
        assert blocks and "is not the one that lets in nobody" in text
    finally:
        person.remove_person(access, "approvers")


def test_the_hub_must_have_its_alias_before_the_parameter_is_set(access):
    assert found(access) == []
    target = with_parameters(access, HubAccountId=HUB)
    ((blocks, text, fix),) = found(target)
    assert blocks and "HubAccountId of environment test needs the door temp-access:hub" in text
    assert fix == "make hub ENV=test PROFILE=…"
    hub.make_hub(target, None, None)
    try:
        assert found(target) == []
        # The door of another hub is another door.
        ((blocks, text, _),) = found(with_parameters(access, HubAccountId="444444444444"))
        assert blocks and "lets in only arn:aws:iam::444444444444:role/sekisho-temp-access-" in text
    finally:
        hub.remove_hub(target)


def test_before_the_first_deployment_the_missing_doors_are_only_noted(cloud, access, names, monkeypatch):
    names(PEOPLE)
    empty = doors(cloud, access)
    empty.versions = None
    monkeypatch.setattr(door_preflight, "Doors", lambda *_: empty)
    ((blocks, text, fix),) = found(with_parameters(access, HubAccountId=HUB))
    assert not blocks and f"Account {T} has no temp-access yet, and so none of its doors (hana, hub)" in text
    assert "make person NAME=hana" in fix and "make hub" in fix


@pytest.mark.parametrize(("text", "blocked"), [("", True), (PEOPLE, True), (PEOPLE + GROUP, False)])
def test_the_approvers_channel_needs_its_group(names, text, blocked):
    names(text)
    target = with_parameters(environment("test"), ApproverSlackChannelId="C0APPROVERS")
    reported = [one.blocks for one in door_preflight.approvers_are_configured(Deployment(target))]
    assert reported == ([True] if blocked else [])
    assert not list(door_preflight.approvers_are_configured(Deployment(environment("test"))))


def test_an_account_that_grants_no_access_needs_no_doors(names):
    names(PEOPLE)
    assert found(environment("repository")) == []


def test_a_configuration_that_can_not_be_read_is_left_to_its_own_check(names, access):
    names("[access.people]\nhana = 7\n")
    with pytest.raises(Unknown, match="can't be read"):
        found(access)


def test_the_checks_of_a_deployment_include_the_doors():
    finders = [check.find for check in (*checks.LOCAL, *checks.REMOTE)]
    assert {door_preflight.approvers_are_configured, door_preflight.doors_exist} <= set(finders)
