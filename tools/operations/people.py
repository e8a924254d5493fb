"""Lists the doors of temp-access: alias and policy, role, configuration, and who is mapped to the role in Slack.

    make people ENV=production

A door without its policy is listed with everybody who could come through. PROFILE=… names other credentials than the
environment's own.
"""

import argparse
import sys

from botocore.exceptions import BotoCoreError, ClientError

from tools.failure import Failure
from tools.operations.account import Account
from tools.operations.door_report import DoorReport
from tools.operations.environment import environment


def people(name: str, profile: str | None) -> bool:
    """Lists the doors; returns whether all of them are in order."""
    target = environment(name, profile)
    if not target.does("GrantsAccess"):
        raise Failure(f"Environment {name} grants no access: use an environment with GrantsAccess=true.")
    return DoorReport(Account(target)).show()


def main(arguments: list[str]) -> None:
    """Parses the command line, and runs the command."""
    parser = argparse.ArgumentParser(prog="make people", description="Lists the doors of temp-access")
    parser.add_argument("--env", required=True, metavar="ENV")
    parser.add_argument("--profile", help="names other credentials than the environment's own")
    asked = parser.parse_args(arguments)
    try:
        sys.exit(0 if people(asked.env, asked.profile) else 1)
    except (Failure, BotoCoreError, ClientError) as error:
        sys.exit(f"Can't tell. {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
