"""Runs the source actions: each takes the pinned revision, or looks one up, and writes it to the artifact bucket."""

import io
import json
import secrets
import zipfile
from datetime import UTC

from local_cloud import codecommit
from local_cloud.codepipeline.permissions import need_permission, session
from local_cloud.services import Credentials, Json, client

# The type of revision that pins a source action, by the action's provider.
REVISION_TYPES = {"CodeCommit": "COMMIT_ID", "ECR": "IMAGE_DIGEST"}


def take_commit(execution: Json, action: Json, configuration: Json, detail: Json) -> str:
    """Archives the pinned commit or the head of the branch, and returns the commit's message."""
    credentials, role = session(execution, action)
    account, region = role.split(":")[4], detail["input"]["region"]
    name, branch = configuration["RepositoryName"], configuration["BranchName"]
    repositories = client("codecommit", region, credentials)
    if pin := execution["pins"].get(action["name"]):
        commit = pin["revisionValue"]
    else:
        commit = repositories.get_branch(repositoryName=name, branchName=branch)["branch"]["commitId"]
    about = repositories.get_commit(repositoryName=name, commitId=commit)["commit"]
    resource = f"arn:aws:codecommit:{region}:{account}:{name}"
    need_permission(credentials, role, region, "codecommit:UploadArchive", resource)
    message: str = about["message"].strip()
    revision = {"revisionId": commit, "revisionSummary": message}
    variables = {
        "RepositoryName": name,
        "BranchName": branch,
        "CommitId": commit,
        "CommitMessage": message,
        "AuthorDate": about["author"]["date"],
        "CommitterDate": about["committer"]["date"],
    }
    _finish(execution, action, detail, credentials, codecommit.archive(name, commit), revision, variables)
    return message


def take_image(execution: Json, action: Json, configuration: Json, detail: Json) -> str:
    """Describes the pinned image or the image with the action's tag. The artifact is a file about the image.

    The registry is that of the account of the action's role. `ImageURI` names the action's tag even if another image
    was pinned, because AWS does not document that it names the digest.
    """
    credentials, _ = session(execution, action)
    region = detail["input"]["region"]
    name, tag = configuration["RepositoryName"], configuration.get("ImageTag", "latest")
    pin = execution["pins"].get(action["name"])
    image_id = {"imageDigest": pin["revisionValue"]} if pin else {"imageTag": tag}
    found = client("ecr", region, credentials).describe_images(repositoryName=name, imageIds=[image_id])
    image: Json = found["imageDetails"][0]
    variables = {
        "RegistryId": image["registryId"],
        "RepositoryName": name,
        "ImageTag": tag,
        "ImageDigest": image["imageDigest"],
        "ImageURI": f"{image['registryId']}.dkr.ecr.{region}.amazonaws.com/{name}:{tag}",
    }
    about = {key: value for key, value in variables.items() if key != "ImageTag"} | {
        "ImageSizeInBytes": str(image["imageSizeInBytes"]),
        "ImagePushedAt": image["imagePushedAt"].astimezone(UTC).strftime("%a %b %d %H:%M:%S UTC %Y"),
        "ImageTags": image.get("imageTags", []),
        "Version": "1.0",
    }
    revision = {"revisionId": image["imageDigest"]}
    _finish(execution, action, detail, credentials, _zipped("imageDetail.json", json.dumps(about)), revision, variables)
    return ""


def _finish(
    execution: Json,
    action: Json,
    detail: Json,
    credentials: Credentials,
    artifact: bytes,
    revision: dict[str, str],
    variables: dict[str, str],
) -> None:
    """Records what a source action took, and writes its artifact."""
    execution["revisions"][action["name"]] = {"name": action["name"]} | revision
    for output in action.get("outputArtifacts", []):
        detail["output"]["outputArtifacts"].append(_put_artifact(execution, output["name"], artifact, credentials))
    detail["output"]["outputVariables"] = variables
    execution["variables"][action.get("namespace", "")] = variables


def _zipped(name: str, content: str) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        archive.writestr(name, content)
    return written.getvalue()


def _put_artifact(execution: Json, artifact: str, content: bytes, credentials: Credentials) -> Json:
    store = execution["structure"]["artifactStore"]
    key = f"{execution['structure']['name'][:20]}/{artifact[:10]}/{secrets.token_urlsafe(8)[:7]}"
    encryption = {"ServerSideEncryption": "aws:kms"}
    if "encryptionKey" in store:
        encryption["SSEKMSKeyId"] = store["encryptionKey"]["id"]
    client("s3", execution["region"], credentials).put_object(
        Bucket=store["location"], Key=key, Body=content, ContentType="application/zip", **encryption
    )
    execution["artifacts"][artifact] = {"bucket": store["location"], "key": key}
    return {"name": artifact, "s3location": execution["artifacts"][artifact]}
