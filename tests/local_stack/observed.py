"""What the accounts hold, looked up through their own APIs: ledger, executions, stacks, objects."""

from datetime import UTC, datetime

from boto3.dynamodb.types import TypeDeserializer
from botocore.exceptions import ClientError

from .layout import LEDGER, PIPELINE

GRANTS = "grant"
_deserializer = TypeDeserializer()


def refused(call):
    """The error code with which the call is refused; none if it isn't."""
    try:
        call()
    except ClientError as error:
        return error.response["Error"]["Code"]
    return None


def ledger(stack, profile):
    """Every item of the account's ledger, as plain values."""
    pages = stack.client(profile, "dynamodb").get_paginator("scan").paginate(TableName=LEDGER, ConsistentRead=True)
    return [
        {name: _deserializer.deserialize(value) for name, value in item.items()} for page in pages for item in page["Items"]
    ]


def decisions(stack, profile, function):
    """The function's decisions in the order of their time: (time, decision)."""
    found = []
    for item in ledger(stack, profile):
        if item["pk"].startswith(f"decision#{function}#"):
            found += [(item["sk"].partition("#")[0], decision) for decision in item["decisions"]]
    return sorted(found, key=lambda one: one[0])


def grants(stack, profile):
    """The grants in the account's ledger."""
    return [item for item in ledger(stack, profile) if item["pk"] == GRANTS]


def executions(stack, profile):
    """The pipeline's executions, newest first."""
    return stack.client(profile, "codepipeline").list_pipeline_executions(pipelineName=PIPELINE)["pipelineExecutionSummaries"]


def execution_of(stack, profile, commit):
    """The execution of that commit, if there is one."""
    for execution in executions(stack, profile):
        if commit in [revision.get("revisionId") for revision in execution.get("sourceRevisions", [])]:
            return execution
    return None


def stack_status(stack, profile, name):
    """The status of a CloudFormation stack; none if there is no such stack."""
    try:
        return stack.client(profile, "cloudformation").describe_stacks(StackName=name)["Stacks"][0]["StackStatus"]
    except ClientError:
        return None


def now():
    return datetime.now(UTC)
