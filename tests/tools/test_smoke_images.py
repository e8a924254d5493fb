"""The smoke check of a pin at an image, against the local cloud and against what AWS might do instead."""

from types import SimpleNamespace
from typing import Any

import pytest

from tests.tools.faults import BUCKET, R, T
from tools.layout import REGION
from tools.local_stack import images
from tools.operations import image_pins
from tools.operations.environment import environment
from tools.operations.facts import Place, State


@pytest.fixture
def place(config, monkeypatch):
    """A cloud in which the test account has a managed pipeline with an image as its second source."""
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    return Place(environment("local-test"))


def pipelines(cloud):
    return [one["name"] for one in cloud.client(T, "codepipeline").list_pipelines()["pipelines"]]


def test_without_an_image_there_is_nothing_to_pin(cloud, place):
    before = pipelines(cloud)
    state, detail = image_pins.pin_needs_no_tag(place)
    assert (state, "repository shop has no image with a tag" in detail) == (State.HIDDEN, True)
    assert pipelines(cloud) == before


def test_a_pin_needs_no_tag_and_leaves_nothing_behind(cloud, place):
    ecr, before = cloud.client(R, "ecr"), pipelines(cloud)
    digest = images.push(ecr, "shop", images.image("smoke"), tag="v1")
    try:
        state, detail = image_pins.pin_needs_no_tag(place)
    finally:
        ecr.batch_delete_image(repositoryName="shop", imageIds=[{"imageDigest": digest}])
    assert (state, detail) == (State.HOLDS, f"the execution took {digest}")
    assert place.left == [] and pipelines(cloud) == before
    objects = cloud.client(T, "s3").list_object_versions(Bucket=BUCKET).get("Versions", [])
    assert [one["Key"] for one in objects if one["Key"].startswith("smoke-")] == []


DIGEST = f"sha256:{'1' * 64}"
NO_TAG = {"executionResult": {"externalExecutionSummary": "The image with the tag does not exist"}}


@pytest.mark.parametrize(
    ("run", "detail"),
    [
        ({"status": "Failed", "output": NO_TAG}, "Failed: The image with the tag does not exist"),
        ({"status": "Succeeded", "output": {"outputVariables": {"ImageDigest": "sha256:2"}}}, "took sha256:2"),
        ({"status": "InProgress"}, "the source action is InProgress"),
    ],
    ids=["no image", "another image", "too slow"],
)
def test_a_pin_that_does_not_work_is_seen(monkeypatch, run, detail):
    monkeypatch.setattr(image_pins, "SOURCE_SECONDS", 0)
    action = {
        "name": "Image",
        "actionTypeId": {"provider": "ECR"},
        "roleArn": f"arn:aws:iam::{R}:role/sekisho-source-action-{REGION}",
        "configuration": {"RepositoryName": "shop", "ImageTag": "v1"},
    }
    model = {"roleArn": "role", "artifactStore": {}, "stages": [{"name": "Source", "actions": [action]}]}
    created = []

    class CodePipeline:
        exceptions = SimpleNamespace(PipelineNotFoundException=KeyError, ValidationException=KeyError)

        def get_pipeline(self, **_request):
            return {"pipeline": model}

        def create_pipeline(self, pipeline):
            created.append(pipeline)

        def start_pipeline_execution(self, **_request):
            return {"pipelineExecutionId": "1"}

        def list_action_executions(self, **_request):
            return {"actionExecutionDetails": [{"stageName": "Source", **run}]}

        def delete_pipeline(self, name):
            created[:] = [one for one in created if one["name"] != name]

    class Pages:
        def get_paginator(self, operation):
            found = {"imageDetails": [{"imageDigest": DIGEST}]} if operation == "describe_images" else {}
            return SimpleNamespace(paginate=lambda **_request: [found])

    clients = {"codepipeline": CodePipeline(), "ecr": Pages(), "s3": Pages()}
    place: Any = SimpleNamespace(
        id=T,
        client=clients.__getitem__,
        outputs={"ArtifactBucketName": BUCKET},
        routes=[SimpleNamespace(pipeline="shop")],
        remove=lambda _what, operation, **request: operation(**request),
    )
    seen = image_pins.pin_needs_no_tag(place)
    assert (seen.state, detail in seen.detail) == (State.FAILS, True), seen
    assert created == []
