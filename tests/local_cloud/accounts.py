"""A cloud to test against: how to start one, and what an administrator of each account can do in it."""

import json
import os
import pathlib
import socket
import subprocess
import sys
import time

import boto3
import pytest
from botocore.config import Config

HERE = pathlib.Path(__file__).parent
REGION = "ap-northeast-1"
REPOSITORY, TEST, PRODUCTION = "111111111111", "222222222222", "333333333333"
ACCOUNTS = (REPOSITORY, TEST, PRODUCTION)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(data: pathlib.Path, port: int) -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, HERE / "cloud.py", "--port", str(port), "--data", data],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    if process.stdout.readline() != "ready\n":
        pytest.fail(process.stderr.read())
    return process


class Cloud:
    """The running cloud, as an administrator of each account sees it."""

    def __init__(self, data: pathlib.Path, port: int):
        self.data, self.port, self.url = data, port, f"http://127.0.0.1:{port}"
        self.administrators = {account: self.user(account, "administrator", [allow("*")]) for account in ACCOUNTS}

    def client(self, service: str, account: str = REPOSITORY, credentials: dict | None = None, region: str = REGION):
        return boto3.client(
            service,
            region_name=region,
            endpoint_url=self.url,
            config=Config(retries={"total_max_attempts": 1}),
            **(credentials or self.administrators[account]),
        )

    def user(self, account: str, name: str, statements: list) -> dict:
        # Only to make the first users: an account's id is its root's key, and no policy stops the root.
        iam = boto3.client(
            "iam", region_name=REGION, endpoint_url=self.url, aws_access_key_id=account, aws_secret_access_key="test"
        )
        iam.create_user(UserName=name)
        iam.put_user_policy(UserName=name, PolicyName="own", PolicyDocument=document(statements))
        key = iam.create_access_key(UserName=name)["AccessKey"]
        return {"aws_access_key_id": key["AccessKeyId"], "aws_secret_access_key": key["SecretAccessKey"]}

    def role(self, account: str, name: str, trusted: dict, statements: list, **condition) -> str:
        trust = {"Effect": "Allow", "Principal": trusted, "Action": "sts:AssumeRole", **condition}
        iam = self.client("iam", account)
        arn = iam.create_role(RoleName=name, AssumeRolePolicyDocument=document([trust]))["Role"]["Arn"]
        if statements:
            iam.put_role_policy(RoleName=name, PolicyName="own", PolicyDocument=document(statements))
        return arn

    def session(self, arn: str, account: str | None = None) -> dict:
        sts = self.client("sts", account or arn.split(":")[4])
        given = sts.assume_role(RoleArn=arn, RoleSessionName="test")["Credentials"]
        return {
            "aws_access_key_id": given["AccessKeyId"],
            "aws_secret_access_key": given["SecretAccessKey"],
            "aws_session_token": given["SessionToken"],
        }

    def queue(self, account: str, name: str) -> tuple[str, str]:
        sqs = self.client("sqs", account)
        url = sqs.create_queue(QueueName=name)["QueueUrl"]
        return url, f"arn:aws:sqs:{REGION}:{account}:{name}"

    def messages(self, account: str, url: str, count: int = 1, seconds: float = 10) -> list[dict]:
        """At least `count` messages, or what came in `seconds`."""
        sqs, found, end = self.client("sqs", account), [], time.monotonic() + seconds
        while len(found) < count and time.monotonic() < end:
            for message in sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", []):
                found.append(json.loads(message["Body"]))
                sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
            time.sleep(0.05)
        return found

    def repository(self, name: str, work: pathlib.Path) -> "Repository":
        self.client("codecommit").create_repository(repositoryName=name)
        return Repository(self.data / "repositories" / f"{name}.git", work / name)


class Repository:
    """A clone of a repository of the cloud."""

    def __init__(self, remote: pathlib.Path, work: pathlib.Path):
        self.remote, self.work = remote, work
        subprocess.run(["git", "clone", "-q", remote, work], check=True, capture_output=True)

    def git(self, *arguments: str) -> str:
        environment = {
            **os.environ,
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_AUTHOR_NAME": "Aki",
            "GIT_AUTHOR_EMAIL": "aki@example.com",
            "GIT_COMMITTER_NAME": "Aki",
            "GIT_COMMITTER_EMAIL": "aki@example.com",
        }
        return subprocess.run(
            ["git", "-C", self.work, *arguments], check=True, capture_output=True, text=True, env=environment
        ).stdout.strip()

    def commit(self, files: dict, message: str = "Change") -> str:
        for name, content in files.items():
            path = self.work / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink() if content is None else path.write_text(content)
        self.git("add", "--all")
        self.git("commit", "-qm", message)
        return self.git("rev-parse", "HEAD")

    def push(self, *refs: str) -> None:
        self.git("push", "-q", "origin", *refs)


def allow(action, resource="*", **more) -> dict:
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


def document(statements: list) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": statements})
