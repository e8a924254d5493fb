"""Reads the state of the accounts through AWS's own APIs: ledger, executions, stacks."""

from collections.abc import Callable
from typing import Any

from boto3.dynamodb.types import TypeDeserializer
from botocore.exceptions import ClientError

from tools.layout import LEDGER, PIPELINE
from tools.local_stack.stack import Stack

GRANTS = "grant"
Row = dict[str, Any]
_deserializer = TypeDeserializer()


def error_code(call: Callable[[], object]) -> str | None:
    """The error code with which AWS refuses the call; None if the call succeeds."""
    try:
        call()
    except ClientError as error:
        return error.response["Error"]["Code"]
    return None


def ledger(stack: Stack, profile: str) -> list[Row]:
    """Every row of the account's ledger, as plain values."""
    pages = stack.client(profile, "dynamodb").get_paginator("scan").paginate(TableName=LEDGER, ConsistentRead=True)
    return [
        {name: _deserializer.deserialize(value) for name, value in item.items()}
        for page in pages
        for item in page["Items"]
    ]


def timed_decisions(stack: Stack, profile: str, function: str) -> list[tuple[str, Row]]:
    """The function's decisions in order, each with its time."""
    found: list[tuple[str, Row]] = []
    for row in ledger(stack, profile):
        if row["pk"].startswith(f"decision#{function}#"):
            found += [(row["sk"].partition("#")[0], decision) for decision in row["decisions"]]
    return sorted(found, key=lambda one: one[0])


def decisions(stack: Stack, profile: str, function: str, outcome: str | None = None) -> list[Row]:
    """The function's decisions in order; only those with the outcome, if one is given."""
    found = [decision for _, decision in timed_decisions(stack, profile, function)]
    return [decision for decision in found if outcome in (None, decision["outcome"])]


def grants(stack: Stack, profile: str) -> list[Row]:
    """The grants in the account's ledger."""
    return [row for row in ledger(stack, profile) if row["pk"] == GRANTS]


def executions(stack: Stack, profile: str) -> list[Row]:
    """The pipeline's executions, newest first."""
    codepipeline = stack.client(profile, "codepipeline")
    found: list[Row] = codepipeline.list_pipeline_executions(pipelineName=PIPELINE)["pipelineExecutionSummaries"]
    return found


def execution_of(stack: Stack, profile: str, commit: str) -> Row | None:
    """The execution of that commit, if there is one."""
    for execution in executions(stack, profile):
        if commit in [revision.get("revisionId") for revision in execution.get("sourceRevisions", [])]:
            return execution
    return None


def stack_status(stack: Stack, profile: str, name: str) -> str | None:
    """The status of a CloudFormation stack; None if there is no such stack."""
    try:
        described = stack.client(profile, "cloudformation").describe_stacks(StackName=name)["Stacks"][0]
    except ClientError:
        return None
    status: str = described["StackStatus"]
    return status
