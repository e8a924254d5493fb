"""A running local cloud for tests, in which each account has an administrator."""

import json
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from tools.git import Clone
from tools.layout import ACCOUNTS, LOCAL_CLOUD, OUTSIDE_ACCOUNT, REGION

REPOSITORY, TEST, PRODUCTION = ACCOUNTS.values()
OUTSIDE = OUTSIDE_ACCOUNT


def start(
    data: Path, port: int, python: str | Path = sys.executable, package: Path = LOCAL_CLOUD, **variables: str
) -> subprocess.Popen[str]:
    """Starts a cloud whose environment also has these variables, and returns its process when the cloud is ready."""
    process = subprocess.Popen(
        [python, package, "--port", str(port), "--data", data],
        env=os.environ | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stderr
    if process.stdout.readline() != "ready\n":
        pytest.fail(process.stderr.read())
    return process


class Cloud:
    """The running cloud. Each account has an administrator."""

    def __init__(self, data: Path, port: int):
        self.data, self.port, self.url = data, port, f"http://127.0.0.1:{port}"
        self.administrators = {
            account: self.user(account, "administrator", [allow("*")]) for account in (*ACCOUNTS.values(), OUTSIDE)
        }

    def client(
        self, service: str, account: str = REPOSITORY, credentials: dict | None = None, region: str = REGION
    ) -> Any:
        make_client: Any = boto3.client
        return make_client(
            service,
            region_name=region,
            endpoint_url=self.url,
            config=Config(retries={"total_max_attempts": 1}),
            **(credentials or self.administrators[account]),
        )

    def user(self, account: str, name: str, statements: list) -> dict:
        # No policy limits the account's root user, whose access key is the account's id. The key only creates users.
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
        """Returns at least `count` messages, or fewer if only fewer arrive within `seconds`."""
        sqs, end = self.client("sqs", account), time.monotonic() + seconds
        found: list[Any] = []
        while len(found) < count and time.monotonic() < end:
            for message in sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", []):
                found.append(json.loads(message["Body"]))
                sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
            time.sleep(0.05)
        return found

    def stack(self, account: str, name: str, resources: dict) -> str:
        """Creates or updates a stack, and returns its status when it is complete."""
        cloudformation, template = self.client("cloudformation", account), json.dumps({"Resources": resources})
        try:
            cloudformation.create_stack(StackName=name, TemplateBody=template)
        except cloudformation.exceptions.AlreadyExistsException:
            cloudformation.update_stack(StackName=name, TemplateBody=template)
        while True:
            status: str = cloudformation.describe_stacks(StackName=name)["Stacks"][0]["StackStatus"]
            if not status.endswith("_IN_PROGRESS"):
                return status
            time.sleep(0.1)

    def post(self, path: str, body: str = "") -> str:
        """Posts to one of the local cloud's own paths."""
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        request = urllib.request.Request(f"{self.url}/_local-cloud/{path}", body.encode(), method="POST")
        with direct.open(request) as answer:
            text: str = answer.read().decode()
        return text

    def sign_in(self, account: str, permissions: str, user: str) -> dict:
        """The keys of a session that a user of Identity Center has by a permission set."""
        keys: dict = json.loads(self.post(f"sign-in/{account}/{permissions}", user))
        return keys

    def repository(self, name: str, work: Path) -> Clone:
        self.client("codecommit").create_repository(repositoryName=name)
        return Clone(self.data / "repositories" / f"{name}.git", work / name)


def allow(action, resource="*", **more) -> dict:
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


def document(statements: list) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


def code(caught: pytest.ExceptionInfo[ClientError]) -> str:
    """Returns the error code of a refused call."""
    return caught.value.response["Error"]["Code"]
