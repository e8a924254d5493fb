"""The hop that finds other roles that the stack's policies admit, because their names resemble the stack's roles.

A policy that admits a role of another account names it by a pattern, such as `role/sekisho-event-relay-*`, because the
region at the end of the name is not known. A wildcard also matches `/`. Therefore the role
`sekisho-event-relay-x/anything`, whose path begins with that name, satisfies the pattern, too.
"""

import json
import re
from typing import NamedTuple

from botocore.exceptions import ClientError

from tools.operations.account import Account, Broken
from tools.operations.path import DeliveryPath
from tools.operations.policy import Context, Document, Unclear, allows

NAMES = "event-relay|source-action|pipeline-starter|pipeline|build|cloudformation|artifact-checker|artifact-batch"
OWN = re.compile(rf"arn:aws[\w-]*:iam::\d{{12}}:role/sekisho-({NAMES})-[a-z]{{2}}(-[a-z]+)+-\d")


class Admission(NamedTuple):
    """A policy that admits roles by a pattern, and a request for which the policy is evaluated."""

    name: str
    document: Document
    action: str
    resource: str
    context: Context


def no_other_role_is_admitted(path: DeliveryPath) -> None:
    """Checks every role of both accounts against the policies that admit roles by a pattern."""
    admissions = _admissions(path)
    for account in {one.id: one for one in (path.repositories, path.pipelines)}.values():
        try:
            roles = _roles(account)
        except ClientError as error:
            path.unclear.append(f"which roles of account {account.id} satisfy the name patterns ({error})")
            continue
        for arn in roles:
            if not OWN.fullmatch(arn):
                _need_refusal(path, account, arn, admissions)


def _roles(account: Account) -> list[str]:
    pages = account.client("iam").get_paginator("list_roles").paginate()
    return [role["Arn"] for page in pages for role in page["Roles"]]


def _admissions(path: DeliveryPath) -> list[Admission]:
    pipelines = path.pipelines
    bus = pipelines.output("EventBusArn", "HostsPipelines")
    partition = path.key.split(":")[1]
    objects = f"arn:{partition}:s3:::{path.bucket}/one"
    relayed = {"events:source": "sekisho.relay", "events:detail-type": "Source Change"}
    reported = {"events:source": "sekisho.starter", "events:detail-type": "Order Report"}
    through_s3 = {"kms:ViaService": f"s3.{pipelines.region}.amazonaws.com"}
    under_key = {
        "s3:x-amz-server-side-encryption": "aws:kms",
        "s3:x-amz-server-side-encryption-aws-kms-key-id": path.key,
    }
    bucket_policy = pipelines.client("s3").get_bucket_policy(Bucket=path.bucket)["Policy"]
    key_policy = pipelines.client("kms").get_key_policy(KeyId=path.key, PolicyName="default")["Policy"]
    trust = path.repositories.role(path.source_role).trust
    return [
        Admission(f"bus {bus}", pipelines.policy_of_bus(), "events:PutEvents", bus, relayed),
        Admission(
            f"bus {path.report_bus}", path.repositories.policy_of_bus(), "events:PutEvents", path.report_bus, reported
        ),
        Admission(f"role {path.source_role}", trust, "sts:AssumeRole", "*", {}),
        Admission(f"bucket {path.bucket}", json.loads(bucket_policy), "s3:PutObject", objects, under_key),
        Admission(f"key {path.key}", json.loads(key_policy), "kms:GenerateDataKey", path.key, through_s3),
    ]


def _need_refusal(path: DeliveryPath, account: Account, arn: str, admissions: list[Admission]) -> None:
    name = arn.rpartition("/")[2]
    fix = account.administrator(f"iam delete-role --role-name {name}") + ", or create it with another name and path"
    for one in admissions:
        facts = {**one.context, "aws:PrincipalArn": arn, "aws:SecureTransport": "true"}
        try:
            admitted = allows(one.document, one.action, one.resource, facts, account.id)
        except Unclear as unclear:
            path.unclear.append(f"whether {one.name} admits only the stack's roles: {unclear}")
            continue
        if admitted:
            raise Broken(f"{one.name} admits {arn}, which is no role of the stack", fix)
