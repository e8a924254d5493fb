"""The smoke checks that Lambda takes the resource policy of a door, and that nobody else comes through it then."""

import json
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from botocore.exceptions import ClientError

from tools.operations.doors import FUNCTION, LATEST, Doors, policy
from tools.operations.facts import Place, Seen, eventually, fails, hidden, holds, uninterrupted, unique_name

# The policy of a new alias takes effect within this time.
SECONDS = 60
# The only error that shows that the policy denies a call.
REFUSAL = "AccessDeniedException"
HELP = b'{"action":"help"}'


def policy_closes_an_alias(place: Place) -> Seen:
    """Makes a door for a role that does not exist, and tries to come through it."""
    return _try_alias(place, opens=True)


def deny_alone_closes_an_alias(place: Place) -> Seen:
    """Makes a closed door, as that of the approvers is without their channel, and tries to come through it."""
    return _try_alias(place, opens=False)


def _try_alias(place: Place, *, opens: bool) -> Seen:
    """Makes an alias with the policy of a door, and tries to come through it with the credentials of the check.

    temp-access refuses the alias, because no configuration names it. So no access is given, whoever comes through.
    """
    functions, name, doors = place.client("lambda"), unique_name(), Doors(place.target, place.client)
    arn, alias = doors.arn(name), {"FunctionName": FUNCTION, "Name": name}
    document = policy(arn, doors.role(name) if opens else None)
    ways: dict[str, Callable[[], Any]] = {
        "Invoke": lambda: functions.invoke(FunctionName=f"{FUNCTION}:{name}", Payload=HELP),
        "InvokeAsync": lambda: functions.invoke_async(FunctionName=f"{FUNCTION}:{name}", InvokeArgs=HELP),
    }
    with ExitStack() as stack:
        with uninterrupted():
            functions.create_alias(**alias, FunctionVersion=LATEST)
            stack.callback(place.remove, f"alias {name} of {FUNCTION}", functions.delete_alias, **alias)
        try:
            functions.put_resource_policy(ResourceArn=arn, Policy=json.dumps(document))
        except ClientError as error:
            # If these credentials may not write policies, that says nothing about the policy.
            if error.response["Error"]["Code"] == REFUSAL:
                raise
            return fails(f"Lambda refuses the policy: {error}")
        codes = {way: _code(call) for way, call in ways.items()}
    if came := [way for way, code in codes.items() if code is None]:
        return fails(f"Lambda takes the policy, but somebody else comes through by {' and '.join(came)}")
    if others := [f"{way} fails with {code}" for way, code in codes.items() if code != REFUSAL]:
        return hidden(f"Lambda takes the policy, but does not show whom it lets in: {' and '.join(others)}")
    return holds(", ".join(f"{way} is refused ({code})" for way, code in codes.items()))


def _code(call: Callable[[], Any]) -> str | None:
    """The code of the error with which a call ends at last; None if Lambda goes on to carry it out.

    Another error than a refusal may pass, such as one of throttling, or of an alias that Lambda does not know yet.
    """
    codes: list[str | None] = []

    def is_refused() -> bool:
        try:
            call()
            codes.append(None)
        except ClientError as error:
            codes.append(error.response["Error"]["Code"])
        return codes[-1] == REFUSAL

    eventually(is_refused, SECONDS)
    return codes[-1]
