"""The smoke check that starts a pipeline of its own at an image's digest, although the action's tag does not exist."""

from contextlib import ExitStack
from typing import Any

from botocore.exceptions import ClientError

from tools.operations.facts import Place, Seen, eventually, fails, hidden, holds, uninterrupted, unique_name

SOURCE_SECONDS = 120
APPROVAL = {
    "name": "Wait",
    "actionTypeId": {"category": "Approval", "owner": "AWS", "provider": "Manual", "version": "1"},
}


def pin_needs_no_tag(place: Place) -> Seen:
    """Creates a pipeline with the image action of a routed pipeline, and starts it pinned at an image of that action.

    The action's tag does not exist, so only the pin can tell which image is meant. Nothing is deployed, because the
    pipeline has no other action than an approval, for which its execution waits until the pipeline is deleted.
    """
    client, name = place.client("codepipeline"), unique_name()
    found = _image_action(place, client)
    if found is None:
        return hidden("no routed pipeline here has a source action of ECR")
    model, action = found
    repository = action["configuration"]["RepositoryName"]
    if (digest := _any_digest(place, action)) is None:
        return hidden(f"repository {repository} has no image with a tag: push one, then check again")
    action = action | {"configuration": {"RepositoryName": repository, "ImageTag": name}}
    structure = {
        "name": name,
        "pipelineType": "V2",
        "roleArn": model["roleArn"],
        "artifactStore": model["artifactStore"],
        "stages": [{"name": "Source", "actions": [action]}, {"name": "Wait", "actions": [APPROVAL]}],
    }
    pin = {"actionName": action["name"], "revisionType": "IMAGE_DIGEST", "revisionValue": digest}
    with ExitStack() as stack:
        artifacts = f"artifacts of pipeline {name}"
        stack.callback(place.remove, artifacts, _delete_artifacts, place=place, pipeline=name)
        with uninterrupted():
            client.create_pipeline(pipeline=structure)
            stack.callback(place.remove, f"pipeline {name}", client.delete_pipeline, name=name)
        try:
            started = client.start_pipeline_execution(name=name, sourceRevisions=[pin])["pipelineExecutionId"]
        except client.exceptions.ValidationException as error:
            return fails(str(error))
        eventually(lambda: _source(client, name, started).get("status") in ("Succeeded", "Failed"), SOURCE_SECONDS)
        run = _source(client, name, started)
    output = run.get("output", {})
    if run.get("status") != "Succeeded":
        result = output.get("executionResult", {})
        return fails(f"the source action is {run.get('status', 'not there')}: {result.get('externalExecutionSummary')}")
    taken = output.get("outputVariables", {}).get("ImageDigest")
    if taken != digest:
        return fails(f"the execution was pinned at {digest}, and took {taken}")
    return holds(f"the execution took {digest}")


def _image_action(place: Place, client: Any) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """A routed pipeline with a source action of ECR, and that action; None if there is none."""
    for route in place.routes:
        try:
            pipeline = client.get_pipeline(name=route.pipeline)["pipeline"]
        except client.exceptions.PipelineNotFoundException:
            continue
        for action in pipeline["stages"][0]["actions"]:
            if action["actionTypeId"]["provider"] == "ECR":
                return pipeline, action
    return None


def _any_digest(place: Place, action: dict[str, Any]) -> str | None:
    """The digest of some image with a tag in the action's repository; None if there is none."""
    ecr, owner = place.client("ecr"), action.get("roleArn", f"::::{place.id}").split(":")[4]
    request = {"registryId": owner, "repositoryName": action["configuration"]["RepositoryName"]}
    pages = ecr.get_paginator("describe_images").paginate(**request, filter={"tagStatus": "TAGGED"})
    return next((image["imageDigest"] for page in pages for image in page["imageDetails"]), None)


def _source(client: Any, name: str, execution: str) -> dict[str, Any]:
    """The source action of the execution; empty if the execution has not started it yet."""
    try:
        which = {"pipelineName": name, "filter": {"pipelineExecutionId": execution}}
        details = client.list_action_executions(**which)["actionExecutionDetails"]
    except ClientError as error:
        if error.response["Error"]["Code"] == "PipelineExecutionNotFoundException":
            return {}
        raise
    return next((one for one in details if one["stageName"] == "Source"), {})


def _delete_artifacts(place: Place, pipeline: str) -> None:
    s3, bucket = place.client("s3"), place.outputs["ArtifactBucketName"]
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=f"{pipeline}/"):
        for one in [*page.get("Versions", []), *page.get("DeleteMarkers", [])]:
            s3.delete_object(Bucket=bucket, Key=one["Key"], VersionId=one["VersionId"])
