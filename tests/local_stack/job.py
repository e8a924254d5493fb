"""The job that the demo shows and the end-to-end tests assert: each deed as somebody would do it, each look at what came of it."""

import hashlib
import json
import shutil
import subprocess
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import boto3

from .layout import ACCOUNTS, PERSON, PIPELINE, REGION, REPOSITORY
from .observed import decisions, execution_of, stack_status
from .processes import Failure, clean_environment
from .stack import eventually

APPLICATION = Path(__file__).with_name("shop")
APPLICATION_FUNCTION = "shop-prices"
PIPELINE_ACCOUNTS = ("test", "production")
EVENT_SECONDS = 60
PIPELINE_SECONDS = 120
NO_COMMIT = "0" * 40


class Clone:
    """A clone of the repository, as a developer has one."""

    def __init__(self, stack, folder):
        self.folder = Path(folder)
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        git("clone", "--quiet", stack.places.repositories / f"{REPOSITORY}.git", self.folder)

    def commit(self, message, files, branch="main"):
        """Writes the files, commits them to the branch and gives the commit's id; nothing is pushed."""
        for name, text in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        git("-C", self.folder, "checkout", "--quiet", "-B", branch)
        git("-C", self.folder, "add", "--all")
        git("-C", self.folder, "commit", "--quiet", "--message", message)
        return git("-C", self.folder, "rev-parse", "HEAD")

    def push(self, branch="main"):
        git("-C", self.folder, "push", "--quiet", "origin", branch)


def git(*command):
    """Runs git as one developer, untouched by the machine's own settings."""
    env = clean_environment(
        GIT_CONFIG_GLOBAL="/dev/null",
        GIT_CONFIG_SYSTEM="/dev/null",
        GIT_AUTHOR_NAME="Developer",
        GIT_AUTHOR_EMAIL="developer@example.com",
        GIT_COMMITTER_NAME="Developer",
        GIT_COMMITTER_EMAIL="developer@example.com",
        GIT_TERMINAL_PROMPT="0",
    )
    done = subprocess.run(["git", *map(str, command)], env=env, capture_output=True, text=True)
    if done.returncode:
        raise Failure(f"git {' '.join(map(str, command))} failed: {done.stderr.strip()}")
    return done.stdout.strip()


def application():
    """The files of the application."""
    return {str(file.relative_to(APPLICATION)): file.read_text() for file in APPLICATION.rglob("*") if file.is_file()}


def told_again(stack, old, new, ref):
    """Puts the event of a push on the bus once more, as EventBridge may."""
    body = f"{old} {new} {ref}\n".encode()
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(f"{stack.endpoint}/_local-cloud/push/{REPOSITORY}", body, timeout=30):
        pass


def relayed_again(stack, profile, commit, later=0, **more):
    """Hands the account's starter the relayed event of a commit once more, as its bus may; or a `later` one, with `more` in it."""
    relayed = [one for one in decided(stack, "repository", "event-relay", "relayed") if one["commit"] == commit][-1]
    change = {
        "kind": "branch",
        "repository": f"arn:aws:codecommit:{REGION}:{ACCOUNTS['repository']}:{REPOSITORY}",
        "ref": "refs/heads/main",
        "commit": commit,
        "previous": relayed.get("previous"),
        "sequence": int(relayed["sequence"]) + later,
        "actor": None,
        "event": None,
    }
    same = "\n".join([change["repository"], change["ref"], str(change["sequence"]), commit])
    detail = {"version": 1, "id": hashlib.sha256(same.encode()).hexdigest(), "change": change, "pipelines": [PIPELINE], **more}
    event = {
        "version": "0",
        "id": "00000000-0000-4000-8000-000000000000",
        "detail-type": "Source Change",
        "source": "sekisho.relay",
        "account": ACCOUNTS["repository"],
        "time": "2026-11-21T00:00:00Z",
        "region": REGION,
        "resources": [change["repository"]],
        "detail": detail,
    }
    return invoke(stack, profile, "sekisho-pipeline-starter", event)


def invoke(stack, profile, function, payload):
    """Invokes a function and waits for its answer; a function error is a failure."""
    client = stack.client(profile, "lambda")
    answer = client.invoke(FunctionName=function, Payload=json.dumps(payload).encode())
    said = json.loads(answer["Payload"].read())
    if "FunctionError" in answer:
        raise Failure(f"{function} in {profile} failed with {said}")
    return said


def decided(stack, profile, function, outcome=None):
    """The function's decisions in the ledger, in order; of one outcome, if named."""
    return [one for _, one in decisions(stack, profile, function) if outcome in (None, one["outcome"])]


def decision_after(stack, profile, function, before, outcome):
    """Waits for a decision of that outcome beyond the `before` first ones, and gives it."""

    def probe():
        return [one for one in decided(stack, profile, function)[before:] if one["outcome"] == outcome]

    return eventually(f"{function} in {profile} decides `{outcome}`", probe, EVENT_SECONDS)[0]


def deployed(stack, profile, commit):
    """Waits until the pipeline has run that commit, and gives the execution; fails if the execution does."""

    def probe():
        execution = execution_of(stack, profile, commit)
        return execution if execution and execution["status"] not in ("InProgress", "Stopping") else None

    execution = eventually(f"pipeline {PIPELINE} in {profile} has run {commit[:8]}", probe, PIPELINE_SECONDS)
    if execution["status"] != "Succeeded":
        actions = stack.client(profile, "codepipeline").list_action_executions(pipelineName=PIPELINE)["actionExecutionDetails"]
        why = [one["output"]["executionResult"].get("externalExecutionSummary") for one in actions if one["status"] == "Failed"]
        raise Failure(f"Pipeline {PIPELINE} in {profile} ended as {execution['status']}: {why}")
    status = stack_status(stack, profile, REPOSITORY)
    if status not in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
        raise Failure(f"Pipeline {PIPELINE} succeeded in {profile}, but its stack {REPOSITORY} is {status}")
    return execution


def put_without_key(stack, profile, key, body):
    """Puts an artifact that S3's own key encrypts, as a tool does that was told of no other."""
    bucket = stack.outputs(profile)["ArtifactBucketName"]
    return stack.client(profile, "s3").put_object(Bucket=bucket, Key=key, Body=body, ServerSideEncryption="AES256")


@contextmanager
def reader(stack, profile):
    """S3 as the pipeline's role: the key is not for people, so an administrator has to let itself into a role that reads."""
    iam = stack.client(profile, "iam")
    arn = stack.outputs(profile)["PipelineRoleArn"]
    name = arn.rpartition("/")[2]
    trust = iam.get_role(RoleName=name)["Role"]["AssumeRolePolicyDocument"]
    me = stack.client(profile, "sts").get_caller_identity()["Arn"]
    lets_me = {"Effect": "Allow", "Principal": {"AWS": me}, "Action": "sts:AssumeRole"}
    opened = {**trust, "Statement": [*trust["Statement"], lets_me]}
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


def mended(stack, profile, key):
    """Waits until the artifact is under the account's own key, and gives its metadata and content."""
    outputs = stack.outputs(profile)
    place = {"Bucket": outputs["ArtifactBucketName"], "Key": key}
    s3 = stack.client(profile, "s3")

    def probe():
        head = s3.head_object(**place)
        return head if head.get("SSEKMSKeyId") == outputs["ArtifactKeyArn"] else None

    head = eventually(f"{key} in {profile} is under the account's key", probe, EVENT_SECONDS)
    with reader(stack, profile) as pipeline:
        return head, pipeline.get_object(**place)["Body"].read()


def person_acts(stack):
    """What the person wants to do in production: see its functions."""
    return stack.client(PERSON, "lambda").list_functions()["Functions"]
