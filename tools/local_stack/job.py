"""The demo's job, which the end-to-end tests check, too: the actions of people and services, and their effects."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import boto3

from tools.failure import Failure
from tools.git import Clone
from tools.layout import PERSON, PIPELINE, REGION, REPOSITORY, ROOT
from tools.local_stack.observed import Row, decisions, execution_of, stack_status
from tools.local_stack.stack import Stack, eventually

APPLICATION = ROOT / "examples" / "shop"
APPLICATION_FUNCTION = "shop-prices"
PIPELINE_ACCOUNTS = ("test", "production")
EVENT_SECONDS = 60
PIPELINE_SECONDS = 120
STARTER = "sekisho-pipeline-starter"
NO_COMMIT = "0" * 40
README_CHANGE = {"README.md": "# Shop\nOpen from nine to five.\n"}


def clone(stack: Stack, folder: Path) -> Clone:
    """A clone of the stack's repository."""
    return Clone(stack.places.repositories / f"{REPOSITORY}.git", folder)


def application() -> dict[str, str]:
    """The files of the application."""
    return {str(file.relative_to(APPLICATION)): file.read_text() for file in APPLICATION.rglob("*") if file.is_file()}


def repeat_push_event(stack: Stack, old: str, new: str, ref: str) -> None:
    """Puts the event of a push on the bus again, because EventBridge may also deliver an event more than once."""
    stack.post(f"push/{REPOSITORY}", f"{old} {new} {ref}\n")


def repeat_relayed_event(stack: Stack, profile: str, commit: str, later: int = 0, **more: object) -> Any:
    """Invokes the account's pipeline-starter again with the relayed event of a commit, as a bus on AWS may do.

    `later` is added to the sequence number; `more` is merged into the event's detail.
    """
    relayed = [one for one in decisions(stack, "repository", "event-relay", "relayed") if one["commit"] == commit][-1]
    repository, ref = f"arn:aws:codecommit:{REGION}:{stack.accounts['repository']}:{REPOSITORY}", "refs/heads/main"
    sequence = int(relayed["sequence"]) + later
    change = {
        "kind": "branch",
        "repository": repository,
        "ref": ref,
        "commit": commit,
        "previous": relayed.get("previous"),
        "sequence": sequence,
        "actor": None,
        "event": None,
    }
    identity = "\n".join([repository, ref, str(sequence), commit])
    detail = {
        "version": 1,
        "id": hashlib.sha256(identity.encode()).hexdigest(),
        "change": change,
        "pipelines": [PIPELINE],
        **more,
    }
    event = {
        "version": "0",
        "id": "00000000-0000-4000-8000-000000000000",
        "detail-type": "Source Change",
        "source": "sekisho.relay",
        "account": stack.accounts["repository"],
        "time": "2026-11-21T00:00:00Z",
        "region": REGION,
        "resources": [repository],
        "detail": detail,
    }
    return invoke(stack, profile, "sekisho-pipeline-starter", event)


def invoke(stack: Stack, profile: str, function: str, payload: object) -> Any:
    """Invokes a function and returns its answer; raises `Failure` if the function fails."""
    client = stack.client(profile, "lambda")
    response = client.invoke(FunctionName=function, Payload=json.dumps(payload).encode())
    answer = json.loads(response["Payload"].read())
    if "FunctionError" in response:
        raise Failure(f"{function} in {profile} failed with {answer}")
    return answer


def schedule(stack: Stack, profile: str, function: str) -> list[Row]:
    """Sends the event of the function's schedule now, and returns the decisions."""
    event = {
        "version": "0",
        "id": "00000000-0000-4000-8000-000000000001",
        "detail-type": "Scheduled Event",
        "source": "aws.events",
        "account": stack.accounts[profile],
        "time": "2026-11-28T00:00:00Z",
        "region": REGION,
        "resources": [],
        "detail": {},
    }
    found: list[Row] = invoke(stack, profile, f"sekisho-{function}", event)["decisions"]
    return found


def failure_of(stack: Stack, profile: str, function: str, payload: object) -> dict[str, str]:
    """Invokes a function that must fail, and returns its error."""
    response = stack.client(profile, "lambda").invoke(FunctionName=function, Payload=json.dumps(payload).encode())
    answer = json.loads(response["Payload"].read())
    if "FunctionError" not in response:
        raise Failure(f"{function} in {profile} answered {answer}; it should fail")
    error: dict[str, str] = answer
    return error


def configure(stack: Stack, profile: str, function: str, text: str) -> dict[str, str]:
    """Gives a function another configuration, and returns the variables that it had before."""
    client = stack.client(profile, "lambda")
    variables: dict[str, str] = client.get_function_configuration(FunctionName=function)["Environment"]["Variables"]
    file = stack.places.folder / f"{profile}-{function}.toml"
    file.write_text(text)
    environment = {"Variables": {**variables, "SEKISHO_CONFIG": str(file)}}
    client.update_function_configuration(FunctionName=function, Environment=environment)
    return variables


def end_of_grant(answer: str) -> datetime:
    """The end time in an answer of temp-access."""
    if not answer.startswith("End time is "):
        raise Failure(f"temp-access answered {answer}")
    return datetime.fromisoformat(answer.removeprefix("End time is ").split()[0].rstrip(".,;"))


def wait_for_decision(stack: Stack, profile: str, function: str, before: int, outcome: str) -> Row:
    """Waits for a decision with that outcome after the first `before` decisions, and returns it."""

    def probe() -> list[Row]:
        return [one for one in decisions(stack, profile, function)[before:] if one["outcome"] == outcome]

    return eventually(f"{function} in {profile} decides `{outcome}`", probe, EVENT_SECONDS)[0]


def wait_for_deployment(stack: Stack, profile: str, commit: str) -> Row:
    """Waits until the pipeline has run that commit, and returns the execution; fails if the execution fails."""

    def probe() -> Row | None:
        execution = execution_of(stack, profile, commit)
        return execution if execution and execution["status"] not in ("InProgress", "Stopping") else None

    execution = eventually(f"pipeline {PIPELINE} in {profile} has run {commit[:8]}", probe, PIPELINE_SECONDS)
    if execution["status"] != "Succeeded":
        codepipeline = stack.client(profile, "codepipeline")
        actions = codepipeline.list_action_executions(pipelineName=PIPELINE)["actionExecutionDetails"]
        results = [one["output"]["executionResult"] for one in actions if one["status"] == "Failed"]
        reasons = [result.get("externalExecutionSummary") for result in results]
        raise Failure(f"Pipeline {PIPELINE} in {profile} ended as {execution['status']}: {reasons}")
    status = stack_status(stack, profile, REPOSITORY)
    if status not in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
        raise Failure(f"Pipeline {PIPELINE} succeeded in {profile}, but its stack {REPOSITORY} is {status}")
    return execution


def put_without_key(stack: Stack, profile: str, key: str, body: bytes) -> Any:
    """Puts an artifact that is encrypted with S3's own key, like a tool that does not know the artifact key."""
    bucket = stack.outputs(profile)["ArtifactBucketName"]
    return stack.client(profile, "s3").put_object(Bucket=bucket, Key=key, Body=body, ServerSideEncryption="AES256")


@contextmanager
def artifact_reader(stack: Stack, profile: str) -> Iterator[Any]:
    """An S3 client with the pipeline's role.

    People may not use the artifact key. So the administrator temporarily adds itself to the trust policy of the
    pipeline's role, and assumes that role.
    """
    iam = stack.client(profile, "iam")
    arn = stack.outputs(profile)["PipelineRoleArn"]
    name = arn.rpartition("/")[2]
    trust = iam.get_role(RoleName=name)["Role"]["AssumeRolePolicyDocument"]
    administrator = stack.client(profile, "sts").get_caller_identity()["Arn"]
    statement = {"Effect": "Allow", "Principal": {"AWS": administrator}, "Action": "sts:AssumeRole"}
    opened = {**trust, "Statement": [*trust["Statement"], statement]}
    iam.update_assume_role_policy(RoleName=name, PolicyDocument=json.dumps(opened))
    try:
        sts = stack.client(profile, "sts")
        key = sts.assume_role(RoleArn=arn, RoleSessionName="reader")["Credentials"]
        yield boto3.client(
            "s3",
            region_name=REGION,
            endpoint_url=stack.endpoint,
            aws_access_key_id=key["AccessKeyId"],
            aws_secret_access_key=key["SecretAccessKey"],
            aws_session_token=key["SessionToken"],
        )
    finally:
        iam.update_assume_role_policy(RoleName=name, PolicyDocument=json.dumps(trust))


def wait_for_repair(stack: Stack, profile: str, key: str) -> tuple[Row, bytes]:
    """Waits until the artifact is encrypted with the account's own key, and returns its metadata and content."""
    outputs = stack.outputs(profile)
    place = {"Bucket": outputs["ArtifactBucketName"], "Key": key}
    s3 = stack.client(profile, "s3")

    def probe() -> Row | None:
        head: Row = s3.head_object(**place)
        return head if head.get("SSEKMSKeyId") == outputs["ArtifactKeyArn"] else None

    head = eventually(f"{key} in {profile} is under the account's key", probe, EVENT_SECONDS)
    with artifact_reader(stack, profile) as s3_of_pipeline:
        return head, s3_of_pipeline.get_object(**place)["Body"].read()


def list_functions_as_person(stack: Stack) -> list[Row]:
    """Lists the functions in production with the person's own credentials."""
    functions: list[Row] = stack.client(PERSON, "lambda").list_functions()["Functions"]
    return functions
