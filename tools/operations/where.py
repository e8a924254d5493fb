"""Shows which revision runs in each target, from the targets' reports.

    make where ENV=repository

ROUTE=… shows only one route; PROFILE=… names other credentials than the environment's own. ENV is the environment in
samconfig.toml whose account has the repositories.
"""

import argparse
import sys

from botocore.exceptions import BotoCoreError, ClientError

from tools.failure import Failure
from tools.operations.environment import environment
from tools.operations.invocation import ask_relay


def main(arguments: list[str]) -> None:
    """Parses the command line, and runs the command."""
    parser = argparse.ArgumentParser(prog="make where", description="Shows which revision runs in each target")
    parser.add_argument("--env", required=True, metavar="ENV")
    parser.add_argument("--profile", help="names other credentials than the environment's own")
    parser.add_argument("--route", help="shows only the targets of this route, by its name or repository")
    asked = parser.parse_args(arguments)
    request = {"action": "where"} | ({"route": asked.route} if asked.route else {})
    try:
        print(ask_relay(environment(asked.env, asked.profile), request))
    except (Failure, ClientError, BotoCoreError) as error:
        sys.exit(f"Can't tell. {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
