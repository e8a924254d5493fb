"""The history of a stack in CloudFormation: whether it was ever deployed, and which resources it created."""

import datetime
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

# A stack that had only these states was never deployed. After any other state, the account may depend on the stack.
NEVER_DEPLOYED = {
    "REVIEW_IN_PROGRESS",
    "CREATE_IN_PROGRESS",
    "CREATE_FAILED",
    "ROLLBACK_IN_PROGRESS",
    "ROLLBACK_FAILED",
    "ROLLBACK_COMPLETE",
    "DELETE_IN_PROGRESS",
    "DELETE_FAILED",
    "DELETE_COMPLETE",
}
# The states in which CloudFormation accepts no deployment until the stack is deleted.
FAILED_FIRST = {"CREATE_FAILED", "ROLLBACK_FAILED", "ROLLBACK_COMPLETE"}
STACK_TYPE = "AWS::CloudFormation::Stack"


@dataclass(frozen=True)
class StackHistory:
    """One stack, present or deleted, with its events from the newest to the oldest."""

    arn: str
    name: str
    status: str
    created: datetime.datetime
    is_protected: bool
    events: list[dict[str, Any]]

    @property
    def was_deployed(self) -> bool:
        """Whether the stack was ever deployed successfully; true if the events do not reach back to its beginning.

        CloudFormation keeps events for a limited time.
        """
        states = [one["ResourceStatus"] for one in self.events if self._is_own(one)]
        if self.status == "REVIEW_IN_PROGRESS":
            return False
        begins = bool(states) and states[-1] in ("REVIEW_IN_PROGRESS", "CREATE_IN_PROGRESS")
        return not begins or not NEVER_DEPLOYED.issuperset([self.status, *states])

    def _is_own(self, event: dict[str, Any]) -> bool:
        return event["ResourceType"] == STACK_TYPE and event["LogicalResourceId"] == self.name

    def created_resource(self, logical: str) -> str | None:
        """The physical id of a resource that this stack created, even if the stack no longer has the resource."""
        for event in self.events:
            begun = "Initiated" in event.get("ResourceStatusReason", "")
            if event["LogicalResourceId"] == logical and (
                event["ResourceStatus"] == "CREATE_COMPLETE"
                or (event["ResourceStatus"] == "CREATE_IN_PROGRESS" and begun)
            ):
                return event.get("PhysicalResourceId") or None
        return None

    def is_older_than(self, moment: datetime.datetime) -> bool:
        """Whether the stack existed at that moment. Fractions of a second do not count: some services report none."""
        return self.created.replace(microsecond=0) <= moment


def present(cloudformation: Any, name: str) -> dict[str, Any] | None:
    """The stack with this name as DescribeStacks returns it; None if there is none."""
    try:
        stack: dict[str, Any] = cloudformation.describe_stacks(StackName=name)["Stacks"][0]
    except ClientError as error:
        if error.response["Error"]["Code"] != "ValidationError" or "does not exist" not in str(error):
            raise
        return None
    return stack


def history(cloudformation: Any, stack: dict[str, Any]) -> StackHistory:
    """The history of a stack from DescribeStacks or ListStacks."""
    pages = cloudformation.get_paginator("describe_stack_events").paginate(StackName=stack["StackId"])
    return StackHistory(
        arn=stack["StackId"],
        name=stack["StackName"],
        status=stack["StackStatus"],
        created=stack["CreationTime"],
        is_protected=stack.get("EnableTerminationProtection", False),
        events=[event for page in pages for event in page["StackEvents"]],
    )


def deleted(cloudformation: Any, name: str) -> list[StackHistory]:
    """The deleted stacks with this name. CloudFormation lists deleted stacks for 90 days."""
    pages = cloudformation.get_paginator("list_stacks").paginate(StackStatusFilter=["DELETE_COMPLETE"])
    found = [one for page in pages for one in page["StackSummaries"] if one["StackName"] == name]
    return [history(cloudformation, one) for one in found]
