"""Removes what a failed first deployment left behind, so that the next deployment can begin.

    make clean-start ENV=test PROFILE=admin               shows the plan, and asks before it removes anything
    make clean-start ENV=test PROFILE=admin WRITE=1       shows the plan, and carries it out without asking

PROFILE names an administrator: the environment's own role may not delete a stack. A stack that was ever deployed
successfully is never touched, and neither is a resource that such a stack created.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import boto3
from botocore.exceptions import BotoCoreError, ClientError, WaiterError

from tools.failure import Failure
from tools.operations import stack_history
from tools.operations.environment import Environment, environment
from tools.operations.leftovers import Leftover, leftovers
from tools.operations.stack_history import StackHistory

TAKE_DOWN = "docs/deploy.md, Take it down, shows how to remove it"


@dataclass(frozen=True)
class Plan:
    """The stack and the resources to remove, and the lines about resources that stay, each with the reason."""

    stack: StackHistory | None
    remove: list[Leftover]
    leave: list[str]

    def lines(self) -> list[str]:
        """The plan as lines for the terminal: first everything that is removed, then everything that stays."""
        stack = [f"remove  stack {self.stack.name}, which is {self.stack.status}"] if self.stack else []
        return [
            *stack,
            *(f"remove  {one.text}" for one in self.remove),
            *(f"leave   {reason}" for reason in self.leave),
        ]


def plan(session: boto3.Session, target: Environment) -> Plan:
    """Decides what to remove; fails if the stack was ever deployed, or if an operation is under way."""
    cloudformation = session.client("cloudformation")
    described = stack_history.present(cloudformation, target.stack)
    stack = stack_history.history(cloudformation, described) if described else None
    if stack and stack.was_deployed:
        raise Failure(
            f"Stack {stack.name} of account {target.account} is {stack.status}. It was deployed successfully before, "
            "or its events do not show its beginning: clean-start removes only a first deployment that failed. "
            f"{TAKE_DOWN}."
        )
    if stack and stack.status.endswith("_IN_PROGRESS") and stack.status != "REVIEW_IN_PROGRESS":
        raise Failure(f"Stack {stack.name} of account {target.account} is {stack.status}: wait until that has ended.")
    histories = [*([stack] if stack else []), *stack_history.deleted(cloudformation, target.stack)]
    remove, leave = [], []
    for one in leftovers(session, target, histories):
        if reason := reason_to_leave(one, histories):
            leave.append(f"{one.text}: {reason}")
        else:
            remove.append(one)
    return Plan(stack, remove, leave)


def reason_to_leave(one: Leftover, histories: Sequence[StackHistory]) -> str | None:
    """The reason why a resource stays; None if a failed first deployment created it and nobody has used it since."""
    creators = [
        stack
        for stack in histories
        if stack.created_resource(one.logical) == one.identity and stack.is_older_than(one.created)
    ]
    if not creators:
        return f"no stack that CloudFormation remembers created it. If you need nothing in it: {TAKE_DOWN}"
    if any(stack.was_deployed for stack in creators):
        return f"a stack that was deployed successfully created it. If you need nothing in it: {TAKE_DOWN}"
    return one.obstacle


def carry_out(session: boto3.Session, what: Plan) -> None:
    """Removes the stack, and then the resources that outlive the stack."""
    # CloudFormation can't delete a bucket with objects, so the bucket is emptied first.
    for one in what.remove:
        if one.before_stack:
            one.before_stack()
    if what.stack:
        cloudformation = session.client("cloudformation")
        if what.stack.is_protected:
            cloudformation.update_termination_protection(EnableTerminationProtection=False, StackName=what.stack.arn)
        cloudformation.delete_stack(StackName=what.stack.arn)
        waiter = cloudformation.get_waiter("stack_delete_complete")
        waiter.wait(StackName=what.stack.arn, WaiterConfig={"Delay": 2, "MaxAttempts": 300})
        print(f"removed  stack {what.stack.name}", flush=True)
    for one in what.remove:
        one.remove()
        print(f"removed  {one.text}", flush=True)


def clean_start(target: Environment, write: bool) -> None:
    """Shows the plan, asks unless `write` is set, and carries the plan out."""
    session = target.session()
    what = plan(session, target)
    print(f"Account {target.account}, region {target.region}, stack {target.stack}:")
    for line in what.lines():
        print(f"  {line}")
    if not what.stack and not what.remove:
        print("Nothing is left of a failed first deployment.")
        return
    if not write:
        profile = f" PROFILE={target.profile}" if target != environment(target.name) else ""
        again = f"Nothing was removed. To remove this: make clean-start ENV={target.name}{profile} WRITE=1"
        if not sys.stdin.isatty():
            print(again)
            return
        if input(f"Remove this from account {target.account}? Type the account id: ").strip() != target.account:
            raise Failure(again)
    carry_out(session, what)
    print(f"Next: make deploy ENV={target.name}")


def main(arguments: list[str]) -> None:
    """Parses the command line, and runs the command."""
    parser = argparse.ArgumentParser(
        prog="make clean-start", description="Removes what a failed first deployment left behind"
    )
    parser.add_argument("--env", required=True, metavar="ENV")
    parser.add_argument("--profile", help="of an administrator; else the environment's own")
    parser.add_argument("--write", action="store_true", help="remove without asking")
    asked = parser.parse_args(arguments)
    try:
        clean_start(environment(asked.env, asked.profile), asked.write)
    except ClientError as error:
        advice = ""
        if error.response["Error"]["Code"] in ("AccessDenied", "AccessDeniedException", "403"):
            advice = (
                "\nThe role for deployment may not do this, by design. An administrator of the account can: "
                f"make clean-start ENV={asked.env} PROFILE=(their profile in ~/.aws/config)"
            )
        sys.exit(f"The clean start is not complete. {error}{advice}")
    except WaiterError as error:
        sys.exit(f"The clean start is not complete. The stack was not deleted; its events name the reason. {error}")
    except (Failure, BotoCoreError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(sys.argv[1:])
