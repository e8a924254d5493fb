"""Sends the latest order to an account's targets again, now, instead of when event-relay would repeat it by itself.

    make resend ENV=repository ROUTE=shop ACCOUNT=333333333333

REGION=… and PIPELINE=… narrow it to one target; PROFILE=… names other credentials than the environment's own. ENV is
the environment in samconfig.toml whose account has the repositories.
"""

import argparse
import sys

from botocore.exceptions import BotoCoreError, ClientError

from tools.failure import Failure
from tools.operations.environment import environment
from tools.operations.invocation import ask_relay


def main(arguments: list[str]) -> None:
    """Parses the command line, and runs the command."""
    parser = argparse.ArgumentParser(prog="make resend", description="Sends the latest order to an account again, now")
    parser.add_argument("--env", required=True, metavar="ENV")
    parser.add_argument("--profile", help="names other credentials than the environment's own")
    parser.add_argument("--route", required=True, help="the route, by its name or repository")
    parser.add_argument("--account", required=True, help="the account that gets the order, as 12 digits")
    parser.add_argument("--region", help="only to the target in this region")
    parser.add_argument("--pipeline", help="only to this pipeline")
    asked = parser.parse_args(arguments)
    given = {name: getattr(asked, name) for name in ("route", "account", "region", "pipeline")}
    request = {"action": "resend"} | {name: value for name, value in given.items() if value}
    try:
        print(ask_relay(environment(asked.env, asked.profile), request))
    except (Failure, ClientError, BotoCoreError) as error:
        sys.exit(f"Not sent. {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
