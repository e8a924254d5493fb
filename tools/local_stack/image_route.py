"""Images on the local stack: the pipelines get an image as their second source, and a route that leads images to it.

ECS runs on AWS only. Here the application is a function, which answers with the image that its stack was given.
"""

import json
from typing import Any

from tools.failure import Failure
from tools.layout import ACCOUNTS, NO_TAG, PIPELINE, REGION, REPOSITORY, SOURCE_ACTION
from tools.local_stack import job, train
from tools.local_stack.images import Manifest, push
from tools.local_stack.observed import Row, executions
from tools.local_stack.stack import Stack, eventually, pipeline

IMAGE_ACTION = "Image"
REGISTRY = ACCOUNTS["repository"]


def uri(digest: str) -> str:
    """The URI by which the accounts pull the image."""
    return f"{REGISTRY}.dkr.ecr.{REGION}.amazonaws.com/{REPOSITORY}@{digest}"


def routes() -> str:
    """The configuration of two routes to each pipeline: one for its code, and one for its image."""
    targets = "".join(
        f'[[route.target]]\naccount = "{ACCOUNTS[profile]}"\nregion = "{REGION}"\npipeline = "{PIPELINE}"\n'
        'action = "{action}"\n'
        for profile in job.PIPELINE_ACCOUNTS
    )
    code = f'[[route]]\nname = "code"\nrepository = "{REPOSITORY}"\nbranches = ["main"]\npaths = ["api/**"]\n'
    image = f'[[route]]\nname = "image"\nimage = "{REPOSITORY}"\ntags = ["v*"]\n'
    return code + targets.replace("{action}", SOURCE_ACTION) + image + targets.replace("{action}", IMAGE_ACTION)


def configure(stack: Stack) -> None:
    """Gives the pipelines their second source, and the functions the routes."""
    source_role = stack.outputs("repository")["SourceActionRoleArn"]
    for profile in job.PIPELINE_ACCOUNTS:
        wanted = with_image(pipeline(stack.outputs(profile), source_role), source_role)
        stack.client(profile, "codepipeline").update_pipeline(pipeline=wanted)
    train.configure(stack, routes())


def with_image(structure: dict[str, Any], source_role: str) -> dict[str, Any]:
    """Adds an image as the second source of the pipeline. The stack gets the image's digest as a parameter."""
    source, deploy = structure["stages"]
    source["actions"].append(
        {
            "name": IMAGE_ACTION,
            "namespace": IMAGE_ACTION,
            "actionTypeId": {"category": "Source", "owner": "AWS", "provider": "ECR", "version": "1"},
            "roleArn": source_role,
            "configuration": {"RepositoryName": REPOSITORY, "ImageTag": NO_TAG},
            "outputArtifacts": [{"name": "ImageDetail"}],
        }
    )
    by_digest = f"#{{Image.RegistryId}}.dkr.ecr.{REGION}.amazonaws.com/#{{Image.RepositoryName}}@#{{Image.ImageDigest}}"
    deploy["actions"][0]["configuration"]["ParameterOverrides"] = json.dumps({"ImageUri": by_digest})
    return structure


def application(answer: str = 'return os.environ["IMAGE_URI"]') -> dict[str, str]:
    """The files of the application, whose function answers with the image that its stack was given."""
    files = train.application(answer)
    template = files[train.TEMPLATE]
    for old, new in (
        ("\nResources:\n", "\nParameters:\n  ImageUri: {Type: String}\n\nResources:\n"),
        (
            "      InlineCode: |\n",
            "      Environment: {Variables: {IMAGE_URI: !Ref ImageUri}}\n      InlineCode: |\n        import os\n",
        ),
    ):
        if template.count(old) != 1:
            raise ValueError(f"{train.TEMPLATE} should have {old!r} once")
        template = template.replace(old, new)
    return files | {train.TEMPLATE: template}


def publish(stack: Stack, manifest: Manifest, tag: str | None) -> str:
    """Pushes an image to the repository account, and returns its digest."""
    return push(stack.client("repository", "ecr"), REPOSITORY, manifest, tag)


def pull(stack: Stack, profile: str, digest: str) -> Row:
    """Asks for the image's manifest as the administrator of an account."""
    answer: Row = stack.client(profile, "ecr").batch_get_image(
        registryId=REGISTRY, repositoryName=REPOSITORY, imageIds=[{"imageDigest": digest}]
    )
    return answer


def pins(execution: Row) -> dict[str, str]:
    """The revision of each source action of an execution."""
    return {one["actionName"]: one["revisionId"] for one in execution.get("sourceRevisions", [])}


def wait_for_pins(stack: Stack, profile: str, commit: str, digest: str) -> Row:
    """Waits until the pipeline has run this commit together with this image, and returns the execution."""
    wanted = {SOURCE_ACTION: commit, IMAGE_ACTION: digest}

    def probe() -> Row | None:
        ended = [one for one in executions(stack, profile) if one["status"] not in ("InProgress", "Stopping")]
        return next((one for one in ended if pins(one) == wanted), None)

    what = f"pipeline {PIPELINE} in {profile} has run {commit[:8]} with {digest[7:19]}"
    return eventually(what, probe, job.PIPELINE_SECONDS)


def wait_for_image(stack: Stack, profile: str, digest: str) -> str:
    """Waits until the application answers with this image, and returns the answer.

    Right after the update of a function, the emulator may end the process that an invocation has just got.
    """

    def probe() -> str | None:
        try:
            answer = str(job.invoke(stack, profile, job.APPLICATION_FUNCTION, {}))
        except Failure:
            return None
        return answer if answer == uri(digest) else None

    return eventually(f"the application in {profile} has the image {digest[7:19]}", probe, job.EVENT_SECONDS)
