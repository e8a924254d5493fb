"""`make deploy` looks for the repository of images before it deploys a managed pipeline, and for its name."""

import dataclasses

import pytest

from tests.tools.faults import R, T
from tests.tools.test_doctor_images import account_leaves_the_unit, policy_with, repository_of_images_deleted
from tools.operations import preflight
from tools.operations.deployment import Deployment
from tools.operations.environment import environment
from tools.operations.free_names import names_are_free
from tools.operations.policy import Unclear


@pytest.fixture(autouse=True)
def _profiles(config, monkeypatch):
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")


def problems(check, name, **parameters):
    found = environment(name)
    deployment = Deployment(dataclasses.replace(found, parameters=found.parameters | parameters))
    return [(one.blocks, one.text, one.fix) for one in check(deployment)]


IMAGE = {"ImageRepositoryName": "shop"}


@pytest.mark.usefixtures("cloud")
def test_an_image_that_the_account_may_pull_is_no_problem():
    assert problems(preflight.image_is_shared, "test", **IMAGE) == []
    assert problems(preflight.image_is_shared, "repository", **IMAGE) == []


@pytest.mark.parametrize("fault", [account_leaves_the_unit, policy_with(lambda _: None)])
def test_an_image_that_the_account_may_not_pull_is_noted(cloud, fault):
    undo = fault(cloud)
    try:
        ((blocks, text, fix),) = problems(preflight.image_is_shared, "test", **IMAGE)
    finally:
        undo()
    assert not blocks and f"does not let account {T} pull" in text
    assert "ImageReaderOrgPaths of ENV=repository" in fix


def test_a_policy_that_forgets_lambda_is_noted(cloud):
    undo = policy_with(lambda text: text.replace("lambda.amazonaws.com", "ecs-tasks.amazonaws.com"))(cloud)
    try:
        ((blocks, text, _),) = problems(preflight.image_is_shared, "test", **IMAGE)
    finally:
        undo()
    assert not blocks and f"does not let Lambda pull for account {T}" in text


def test_a_missing_repository_of_images_is_noted(cloud):
    undo = repository_of_images_deleted(cloud)
    try:
        ((blocks, text, _),) = problems(preflight.image_is_shared, "test", **IMAGE)
    finally:
        undo()
    assert not blocks and f"There is no repository of images shop in account {R} (ENV=repository)" in text
    assert problems(preflight.image_is_shared, "test") == []


def test_the_place_in_the_organization_may_stay_unknown(monkeypatch):
    monkeypatch.setattr("tools.operations.account.Account.organization_path", lambda _, __: None)
    with pytest.raises(Unclear, match="place in the organization"):
        problems(preflight.image_is_shared, "test", **IMAGE)


def test_the_name_of_the_repository_of_images_must_be_free(cloud):
    assert problems(names_are_free, "repository", **IMAGE) == []
    cloud.client(R, "ecr").create_repository(repositoryName="cart")
    try:
        # The stack owns a repository of images, but not this one.
        ((blocks, text, fix),) = problems(names_are_free, "repository", ImageRepositoryName="cart")
        elsewhere = Deployment(environment("repository"))
        elsewhere.target = dataclasses.replace(
            elsewhere.target, stack="other", parameters={"HostsRepositories": "true", "ImageRepositoryName": "cart"}
        )
        texts = [one.text for one in names_are_free(elsewhere)]
    finally:
        cloud.client(R, "ecr").delete_repository(repositoryName="cart")
    assert blocks and "already has a repository of images cart" in text
    assert "leave ImageRepositoryName empty" in fix and "rename" not in fix
    assert any("already has a repository of images cart, and stack other does not own it" in one for one in texts)
