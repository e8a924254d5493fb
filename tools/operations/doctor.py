"""Checks the delivery path hop by hop, names the first broken link and its fix, and lists the doors of temp-access.

    make doctor ENV=production

The command only reads the deployed resources of the two accounts. A hop that can't be judged is reported as unclear.
An account that grants access is also asked for its doors, and for everybody who could come through one that lacks its
policy.
"""

import argparse
import sys

from botocore.exceptions import BotoCoreError, ClientError

from tools.failure import Failure
from tools.layout import CONFIG, ROOT
from tools.operations.account import Account, Broken
from tools.operations.credentials import default_keys
from tools.operations.door_report import DoorReport
from tools.operations.environment import environment
from tools.operations.hops import HOPS
from tools.operations.path import DeliveryPath
from tools.operations.policy import Unclear

CHANGED_BY_HAND = (
    "If make deploy finds nothing to change, the resource was changed by hand: see docs/deploy.md, Changed by hand."
)


def check(path: DeliveryPath) -> bool:
    """Prints the hops up to the first broken one; returns whether every hop holds and none is unclear."""
    whole = True
    for number, hop in enumerate(HOPS, 1):
        path.unclear, path.advice = [], []
        try:
            hop.check(path)
        except Broken as broken:
            print(f"{number:>2}. BROKEN  {hop.statement}\n    {broken}\n    Fix: {broken.fix}")
            if "make deploy" in broken.fix:
                print(f"    {CHANGED_BY_HAND}")
            return False
        except Unclear as unclear:
            path.unclear.append(f"whether it holds: {unclear}")
        print(f"{number:>2}. {'UNCLEAR' if path.unclear else 'holds  '} {hop.statement}")
        for question in dict.fromkeys(path.unclear):
            print(f"    Can't tell {question}")
        for advice in dict.fromkeys(path.advice):
            print(f"    Advice: {advice}")
        whole = whole and not path.unclear
    return whole


def doctor(name: str) -> bool:
    """Checks the path to the environment's pipelines and its doors; returns whether all of that is in order."""
    target = environment(name)
    if not target.does("HostsPipelines") and not target.does("GrantsAccess"):
        raise Failure(
            f"Environment {name} hosts no pipelines and grants no access: use an environment with HostsPipelines=true "
            "or GrantsAccess=true."
        )
    account, whole = Account(target), True
    if problem := default_keys(target.profile):
        print(f"Advice: {problem}.")
    if target.does("HostsPipelines"):
        repositories = Account(environment(target.repositories))
        print(
            f"From the repositories in account {repositories.id} to the pipelines in account {account.id}, "
            f"for the routes of {CONFIG.relative_to(ROOT)}:"
        )
        whole = check(DeliveryPath(repositories, account))
    if target.does("GrantsAccess"):
        whole = DoorReport(account).show() and whole
    return whole


def main(arguments: list[str]) -> None:
    """Parses the command line, and runs the command."""
    parser = argparse.ArgumentParser(
        prog="make doctor",
        description="Names the first broken link between the repositories and an account's pipelines, and open doors",
    )
    parser.add_argument("--env", required=True, metavar="ENV")
    try:
        sys.exit(0 if doctor(parser.parse_args(arguments).env) else 1)
    except (Failure, BotoCoreError, ClientError) as error:
        sys.exit(f"Can't tell. {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
