"""Reads every policy of a deployed stack, with its names resolved."""

import json
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from tools.layout import BUS, REGION, STACK


@dataclass(frozen=True)
class Policy:
    """One policy document; `on` is the ARN of the role or resource to which the policy belongs."""

    # identity, trust, boundary, guardrail, window, managed, people's, bus, key, bucket, queue, topic, function, images
    kind: str
    on: str
    document: dict = field(hash=False)
    roles: tuple = ()  # the roles to which a managed policy is attached

    @property
    def statements(self):
        found = self.document["Statement"]
        return found if isinstance(found, list) else [found]

    def __str__(self):
        return f"{self.kind} of {self.on}"


def default_version(iam, arn):
    version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
    return iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]["Document"]


def of(deployed, account, stack=STACK):
    """Returns all policies of a stack; fails if the stack has a kind of policy that this function does not read."""
    client = partial(deployed.client, account)
    cloudformation, iam = client("cloudformation"), client("iam")
    pages = cloudformation.get_paginator("list_stack_resources").paginate(StackName=stack)
    resources = [
        (one["LogicalResourceId"], one["ResourceType"], one["PhysicalResourceId"])
        for page in pages
        for one in page["StackResourceSummaries"]
    ]
    found = []

    def add(kind, on, document, roles=()):
        found.append(Policy(kind, on, json.loads(document) if isinstance(document, str) else document, roles))

    managed = partial(default_version, iam)
    attached: dict[str, list[str]] = {}
    for _, kind, physical in resources:
        if kind == "AWS::IAM::Role":
            for policy in iam.list_attached_role_policies(RoleName=physical)["AttachedPolicies"]:
                attached.setdefault(policy["PolicyArn"], []).append(iam.get_role(RoleName=physical)["Role"]["Arn"])
    for arn in attached.keys() - {physical for _, _, physical in resources}:
        add("people's", arn, managed(arn), tuple(attached[arn]))
    for logical, kind, physical in resources:
        match kind:
            case "AWS::IAM::Role":
                role = iam.get_role(RoleName=physical)["Role"]
                add("trust", role["Arn"], role["AssumeRolePolicyDocument"])
                for name in iam.list_role_policies(RoleName=physical)["PolicyNames"]:
                    add(
                        "identity",
                        role["Arn"],
                        iam.get_role_policy(RoleName=physical, PolicyName=name)["PolicyDocument"],
                    )
            case "AWS::IAM::ManagedPolicy":
                add(
                    OTHERS.get(logical.rstrip("0123456789"), "managed"),
                    physical,
                    managed(physical),
                    tuple(attached.get(physical, [])),
                )
            case "AWS::Events::EventBus":
                bus = client("events").describe_event_bus(Name=BUS)
                add("bus", bus["Arn"], bus["Policy"])
            case "AWS::KMS::Key":
                kms = client("kms")
                arn = kms.describe_key(KeyId=physical)["KeyMetadata"]["Arn"]
                add("key", arn, kms.get_key_policy(KeyId=physical, PolicyName="default")["Policy"])
            case "AWS::S3::Bucket":
                add("bucket", f"arn:aws:s3:::{physical}", client("s3").get_bucket_policy(Bucket=physical)["Policy"])
            case "AWS::SQS::Queue":
                queue = client("sqs").get_queue_attributes(QueueUrl=physical, AttributeNames=["All"])["Attributes"]
                # Only roles of this account use a queue without a policy.
                if "Policy" in queue:
                    add("queue", queue["QueueArn"], queue["Policy"])
            case "AWS::SNS::Topic":
                add("topic", physical, client("sns").get_topic_attributes(TopicArn=physical)["Attributes"]["Policy"])
            case "AWS::ECR::Repository":
                ecr = client("ecr")
                (repository,) = ecr.describe_repositories(repositoryNames=[physical])["repositories"]
                policy = ecr.get_repository_policy(repositoryName=physical)["policyText"]
                add("images", repository["repositoryArn"], policy)
            case "AWS::Lambda::Function":
                arn, functions = f"arn:aws:lambda:{REGION}:{account}:function:{physical}", client("lambda")
                # Nobody needs a permission to invoke a function whose messages Lambda takes out of a queue.
                with suppress(functions.exceptions.ResourceNotFoundException):
                    add("function", arn, functions.get_policy(FunctionName=physical)["Policy"])
            case _ if kind.endswith("Policy") and kind not in READ_WITH_THEIR_RESOURCE:
                raise AssertionError(f"{logical} is a {kind}, which nobody reads here")
    return found


# The managed policies that no role of the stack has.
OTHERS = {"AccessBoundary": "boundary", "ChatGuardrail": "guardrail", "WindowPolicy": "window"}
READ_WITH_THEIR_RESOURCE = ["AWS::S3::BucketPolicy", "AWS::SQS::QueuePolicy", "AWS::SNS::TopicPolicy"]


def listed(value):
    """Returns the value of a policy element as a list."""
    return value if isinstance(value, list) else [value]
