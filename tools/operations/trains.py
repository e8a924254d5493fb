"""Makes a request about a train: train, hold, resume, accept, promote, pardon or rollback.

    make train ENV=repository ROUTE=shop
    make hold ENV=repository ROUTE=shop WAVE=tokyo REASON="The sale ends on Monday" MINUTES=120

CODE=… of a notice stands for route, wave and revision. REF=… narrows a request to the changes of one branch or tag, and
DRY_RUN=1 shows what the request would do. PROFILE=… names other credentials than the environment's own. ENV is the
environment in samconfig.toml whose account has the repositories.

    make accept ENV=test FINDING=ABCD2345 REASON="The bucket is shared on purpose"

accepts a finding of artifact-checker. ENV is then an environment whose account hosts pipelines.

The function checks the request. Its errors say what is missing, so this command does not check it, too.
"""

import argparse
import sys
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from tools.failure import Failure
from tools.operations.environment import environment
from tools.operations.invocation import ask_checker, ask_relay

# What each operation does, in the words of its help text.
OPERATIONS = {
    "train": "Shows where every change is, and what each wave waits for",
    "hold": "Lets nothing enter a wave, or any wave of the route",
    "resume": "Ends a hold",
    "accept": "Takes the unknown targets of a wave for healthy, or accepts a finding about artifacts",
    "promote": "Lets a change enter a wave next, whatever holds it back",
    "pardon": "Lets a condemned change be tried again",
    "rollback": "Sends the targets of a wave back, condemns the change, and holds the wave",
}


def request(operation: str, asked: argparse.Namespace) -> dict[str, Any]:
    """The request, with the fields that were given. A code is the value of its operation."""
    subject = {operation: asked.code} if asked.code else {"action": operation}
    given = {name: getattr(asked, name) for name in ("route", "wave", "revision", "ref", "reason", "minutes")}
    dry_run = {"dry_run": True} if asked.dry_run else {}
    return subject | {name: value for name, value in given.items() if value is not None} | dry_run


def main(arguments: list[str]) -> None:
    """Parses the command line, whose first word is the operation, and runs the command."""
    operation, *rest = arguments
    parser = argparse.ArgumentParser(prog=f"make {operation}", description=OPERATIONS[operation])
    parser.add_argument("--env", required=True, metavar="ENV")
    parser.add_argument("--profile", help="names other credentials than the environment's own")
    parser.add_argument("--route", help="the route, by its name or repository")
    parser.add_argument("--wave", help="the wave, by its name")
    parser.add_argument("--revision", help="the commit, or its first 7 digits or more")
    parser.add_argument("--ref", help="only the changes of this branch or tag")
    parser.add_argument("--reason", help="why, in your own words")
    parser.add_argument("--minutes", type=int, help="how long a hold lasts")
    parser.add_argument("--code", help="the code in a notice, instead of the route, the wave and the revision")
    parser.add_argument("--dry-run", action="store_true", help="only show what the request would do")
    if operation == "accept":
        parser.add_argument("--finding", help="the code of a finding about artifacts, instead of a route")
    asked = parser.parse_args(rest)
    try:
        target = environment(asked.env, asked.profile)
        if finding := getattr(asked, "finding", None):
            fields = {"action": operation, "finding": finding} | ({"reason": asked.reason} if asked.reason else {})
            print(ask_checker(target, fields))
        else:
            print(ask_relay(target, request(operation, asked)))
    except (Failure, ClientError, BotoCoreError) as error:
        sys.exit(f"Not done. {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
