"""Confirms a repair of artifacts: S3 Batch Operations puts what a sweep has left under the right key.

    make repair ENV=test CODE=7KQ2M9XA

The notice about the repair has the code and the estimated cost. PROFILE=… names other credentials than the
environment's own. ENV is an environment in samconfig.toml whose account hosts pipelines.
"""

import argparse
import sys

from botocore.exceptions import BotoCoreError, ClientError

from tools.failure import Failure
from tools.operations.environment import environment
from tools.operations.invocation import ask_checker


def main(arguments: list[str]) -> None:
    """Parses the command line, and runs the command."""
    parser = argparse.ArgumentParser(prog="make repair", description="Confirms a repair of artifacts")
    parser.add_argument("--env", required=True, metavar="ENV")
    parser.add_argument("--profile", help="names other credentials than the environment's own")
    parser.add_argument("--code", required=True, help="the code in the notice about the repair")
    asked = parser.parse_args(arguments)
    try:
        print(ask_checker(environment(asked.env, asked.profile), {"action": "repair", "code": asked.code}))
    except (Failure, ClientError, BotoCoreError) as error:
        sys.exit(f"Not done. {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
