"""The smoke check that Lambda takes the resource policy of a door, and that nobody else comes through it then."""

import json
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from botocore.exceptions import ClientError

from tools.operations.doors import FUNCTION, LATEST, Doors, policy
from tools.operations.facts import Place, Seen, eventually, fails, holds, uninterrupted, unique_name

# The policy of a new alias takes effect within this time.
SECONDS = 60
HELP = b'{"action":"help"}'


def policy_closes_an_alias(place: Place) -> Seen:
    """Makes a door for a role that does not exist, and tries to come through it with the credentials of the check.

    temp-access refuses the alias, because no configuration names it. So no access is given, whoever comes through.
    """
    functions, name, doors = place.client("lambda"), unique_name(), Doors(place.target, place.client)
    arn, alias = doors.arn(name), {"FunctionName": FUNCTION, "Name": name}
    ways: dict[str, Callable[[], Any]] = {
        "Invoke": lambda: functions.invoke(FunctionName=f"{FUNCTION}:{name}", Payload=HELP),
        "InvokeAsync": lambda: functions.invoke_async(FunctionName=f"{FUNCTION}:{name}", InvokeArgs=HELP),
    }
    with ExitStack() as stack:
        with uninterrupted():
            functions.create_alias(**alias, FunctionVersion=LATEST)
            stack.callback(place.remove, f"alias {name} of {FUNCTION}", functions.delete_alias, **alias)
        try:
            functions.put_resource_policy(ResourceArn=arn, Policy=json.dumps(policy(arn, doors.role(name))))
        except ClientError as error:
            return fails(f"Lambda refuses the policy: {error}")
        refusals = {way: _refusal(call) for way, call in ways.items()}
    if came := [way for way, refusal in refusals.items() if refusal is None]:
        return fails(f"Lambda takes the policy, but somebody else comes through by {' and '.join(came)}")
    return holds(", ".join(f"{way} is refused ({refusal})" for way, refusal in refusals.items()))


def _refusal(call: Callable[[], Any]) -> str | None:
    """The code with which Lambda refuses a call; None if it goes on to carry it out."""
    codes: list[str] = []

    def is_refused() -> bool:
        try:
            call()
        except ClientError as error:
            codes.append(error.response["Error"]["Code"])
        return bool(codes)

    return None if eventually(is_refused, SECONDS) is None else codes[0]
