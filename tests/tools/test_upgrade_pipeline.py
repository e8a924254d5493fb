"""`make upgrade-pipeline` shows the change of a V1 pipeline to V2, and makes nothing but that change."""

import copy
import pathlib
import time

import pytest
from botocore.exceptions import ClientError

from tests.tools.faults import R, T
from tests.tools.runner import run
from tests.tools.test_commands import make_would_run
from tools.failure import Failure
from tools.git import Clone
from tools.operations import upgrade_pipeline
from tools.operations.environment import environment

APPROVAL = {
    "name": "Approve",
    "runOrder": 1,
    "actionTypeId": {"category": "Approval", "owner": "AWS", "provider": "Manual", "version": "1"},
    "configuration": {},
}


@pytest.fixture
def client(cloud):
    return cloud.client(T, "codepipeline")


@pytest.fixture
def old(cloud, client, tmp_path):
    """A V1 pipeline of somebody's own: its source is a repository with one commit, and then it asks for approval."""
    codecommit = cloud.client(R, "codecommit")
    made = codecommit.create_repository(repositoryName="upgrades")["repositoryMetadata"]
    clone = Clone(pathlib.Path(made["cloneUrlHttp"]), tmp_path / "clone")
    clone.commit({"a": "a"})
    clone.push("main")
    pipeline = copy.deepcopy(client.get_pipeline(name="shop")["pipeline"])
    source = pipeline["stages"][0]["actions"][0]
    source["configuration"] |= {"RepositoryName": "upgrades", "BranchName": "main"}
    pipeline |= {"name": "old", "pipelineType": "V1", "executionMode": "SUPERSEDED"}
    pipeline["stages"] = [{"name": "Source", "actions": [source]}, {"name": "Approval", "actions": [APPROVAL]}]
    pipeline.pop("version")
    yield client.create_pipeline(pipeline=pipeline)["pipeline"]
    client.delete_pipeline(name="old")
    codecommit.delete_repository(repositoryName="upgrades")


def upgrade(config, *more, pipeline="old"):
    return run(config, "upgrade-pipeline", "test", "--pipeline", pipeline, *more)


def present(client):
    return client.get_pipeline(name="old")["pipeline"]


def test_the_change_is_shown_and_not_made(config, client, old):
    code, output = upgrade(config)
    assert code == 0, output
    changed = [line for line in output.splitlines() if line.startswith(("+", "-"))]
    assert changed == ["--- present", "+++ wanted", '-  "pipelineType": "V1",', '+  "pipelineType": "V2",']
    assert "Nothing was changed." in output
    assert "make upgrade-pipeline ENV=test PIPELINE=old WRITE=1 PROFILE=" in output
    assert present(client) == old


def test_only_the_type_changes(config, client, old):
    code, output = upgrade(config, "--write")
    assert code == 0, output
    assert '+  "pipelineType": "V2",' in output and "nothing else has changed" in output
    assert present(client) == old | {"pipelineType": "V2", "version": old["version"] + 1}
    code, output = upgrade(config, "--write")
    assert (code, output.startswith("Nothing to change")) == (0, True), output
    assert present(client)["version"] == old["version"] + 1


def test_a_running_execution_is_not_cancelled(config, client, old):
    execution = client.start_pipeline_execution(name="old")["pipelineExecutionId"]
    which = {"pipelineName": "old", "pipelineExecutionId": execution}
    code, output = upgrade(config, "--write")
    assert (code, present(client)) == (1, old), output
    assert f"Nothing was changed. Execution {execution}" in output and "is InProgress" in output
    client.stop_pipeline_execution(**which, abandon=True)
    deadline = time.monotonic() + 30
    while client.get_pipeline_execution(**which)["pipelineExecution"]["status"] != "Stopped":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    code, output = upgrade(config, "--write")
    assert (code, present(client)["pipelineType"]) == (0, "V2"), output


@pytest.mark.usefixtures("old")
def test_the_role_for_deployment_shows_the_change_and_may_not_make_it(config_of_deployer, client):
    code, output = upgrade(config_of_deployer)
    assert (code, '+  "pipelineType": "V2",' in output) == (0, True), output
    code, output = upgrade(config_of_deployer, "--write")
    assert (code, present(client)["pipelineType"]) == (1, "V1"), output
    assert "The role for deployment may not do this, by design." in output


@pytest.mark.usefixtures("old")
def test_an_unknown_pipeline_is_named_with_the_known_ones(config):
    code, output = upgrade(config, pipeline="odl")
    assert code == 1
    assert f"There is no pipeline odl of account {T}" in output and "its pipelines are old, shop" in output


def test_a_hidden_secret_is_not_overwritten(config, client, old):
    changed = {key: value for key, value in copy.deepcopy(old).items() if key != "version"}
    changed["stages"][0]["actions"][0]["configuration"]["OAuthToken"] = "****"
    client.update_pipeline(pipeline=changed)
    code, output = upgrade(config, "--write")
    assert (code, present(client)["pipelineType"]) == (1, "V1"), output
    assert "OAuthToken of action Source is a secret that AWS does not show" in output


def test_a_change_that_codepipeline_adds_is_reported(monkeypatch):
    class Adds:
        """A fake of CodePipeline that changes the mode of a pipeline along with its type."""

        class exceptions:  # noqa: N801 (boto3's name)
            PipelineNotFoundException = ClientError

        def get_pipeline(self, name):
            return {"pipeline": {"name": name, "executionMode": "SUPERSEDED", "stages": [], "version": 1}}

        def get_paginator(self, _):
            return self

        def paginate(self, **_):
            return [{"pipelineExecutionSummaries": [{"status": "Succeeded"}]}]

        def update_pipeline(self, pipeline):
            return {"pipeline": pipeline | {"executionMode": "QUEUED", "version": 2}}

        def client(self, _):
            return self

    target = environment("test")
    monkeypatch.setattr(type(target), "session", lambda _: Adds())
    with pytest.raises(Failure) as failure:
        upgrade_pipeline.upgrade(target, "old", write=True)
    assert "has also changed executionMode" in str(failure.value)


def test_only_the_command_line_makes_the_change():
    """A variable that a shell happens to export must not change a pipeline."""
    assert "--write" in make_would_run("upgrade-pipeline", "ENV=test", "PIPELINE=shop", "WRITE=1")
    assert "--write" not in make_would_run("upgrade-pipeline", "ENV=test", "PIPELINE=shop", WRITE="1")
    words = make_would_run("upgrade-pipeline", "ENV=test", "PIPELINE=shop", "PROFILE=admin")
    assert '--env "test" --profile "admin" --pipeline "shop"' in words
