"""The stack of a person's door: the role of whoever may use it, and the prepared user if the stack created one."""

from collections.abc import Iterator
from typing import Any

from tools.failure import Failure
from tools.layout import ROOT
from tools.operations import stack_history

TEMPLATE = ROOT / "bootstrap" / "person.yaml"


class PersonStack:
    """The stack of one door."""

    def __init__(self, cloudformation: Any, door: str) -> None:
        self._cloudformation, self._door = cloudformation, door
        self.name = f"sekisho-door-{door}"
        self._stack = stack_history.present(cloudformation, self.name)

    @property
    def user(self) -> str:
        """The IAM user that the stack created; empty if there is none."""
        parameters = (self._stack or {}).get("Parameters", [])
        given = {one["ParameterKey"]: one.get("ParameterValue", "") for one in parameters}
        return given.get("PreparedUser", "")

    def deploy(self, user: str) -> Iterator[str]:
        """Creates or updates the stack, and yields a line if it did. With the same template and user, it does neither.

        CloudFormation would take the same template as well, but it would also wait and write events.
        """
        parameters = {"DoorName": self._door, "PreparedUser": user}
        status = self._stack["StackStatus"] if self._stack else None
        if status in stack_history.FAILED_FIRST:
            raise Failure(
                f"Stack {self.name} is {status}, because its first deployment failed: see its events, then delete it "
                f"(aws cloudformation delete-stack --stack-name {self.name}) and try again."
            )
        text = TEMPLATE.read_text()
        if status and user == self.user and self._template() == text:
            return
        request = {
            "StackName": self.name,
            "TemplateBody": text,
            "Capabilities": ["CAPABILITY_NAMED_IAM"],
            "Parameters": [{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
        }
        verb = "update" if status else "create"
        getattr(self._cloudformation, f"{verb}_stack")(**request)
        self._wait(f"stack_{verb}_complete")
        yield f"{verb}d  stack {self.name}{f', with user {user}' if user and user != self.user else ''}"

    def delete(self) -> Iterator[str]:
        """Deletes the stack, and yields a line if there was one. The user stays."""
        if self._stack:
            self._cloudformation.delete_stack(StackName=self.name)
            self._wait("stack_delete_complete")
            yield f"removed  stack {self.name}, with the role of the door"

    def _template(self) -> str:
        return str(self._cloudformation.get_template(StackName=self.name)["TemplateBody"])

    def _wait(self, waiter: str) -> None:
        self._cloudformation.get_waiter(waiter).wait(StackName=self.name, WaiterConfig={"Delay": 2, "MaxAttempts": 150})
