"""Makes or removes the door through which another account's temp-access hands on requests to this account.

    make hub ENV=production ACCOUNT=222222222222 PROFILE=admin
    make hub ENV=production PROFILE=admin REMOVE=1

The alias `hub` lets in only the temp-access of the hub account. Without ACCOUNT=…, the account is HubAccountId in
samconfig.toml; REGION=… is where it grants access, if samconfig.toml has no such environment. In any other region, the
role of temp-access would be free for whoever may create roles in that account. PROFILE names an administrator's
credentials. A second run changes nothing.
"""

import argparse
import re
import sys

from botocore.exceptions import BotoCoreError, ClientError

from tools.failure import Failure
from tools.operations.doors import FUNCTION, HUB, hub_role, regions_of_hub
from tools.operations.environment import SAMCONFIG, Environment, environment
from tools.operations.person import advice, doors_of, session_of_access


def hub_of(target: Environment, account: str | None) -> str:
    """The account that may hand requests on: the given one, or that of samconfig.toml."""
    configured = target.parameters.get("HubAccountId", "")
    chosen = account or configured
    if not chosen:
        raise Failure(
            "It is not known which account may hand requests on: name it with ACCOUNT=… (12 digits), or set "
            f"HubAccountId of {target.name} in {SAMCONFIG.name}."
        )
    if not re.fullmatch(r"\d{12}", chosen, re.ASCII):
        raise Failure(f"ACCOUNT={chosen} is not an account id of 12 digits.")
    if configured not in ("", chosen):
        raise Failure(f"ACCOUNT={chosen} contradicts HubAccountId={configured} of {target.name} in {SAMCONFIG.name}.")
    if chosen == target.account:
        raise Failure(f"Account {chosen} answers its own requests, without a hub: name another account.")
    return chosen


def region_of(hub: str, region: str | None, admitted: str | None) -> str:
    """Where the hub account grants access, which makes its role: as samconfig.toml has it, or the given region.

    `admitted` is the region that the door admits already.
    """
    known = regions_of_hub(hub)
    chosen = region or (admitted if admitted in known or not known else None)
    if chosen is None and len(known) == 1:
        return known[0]
    if chosen is None:
        where = f"in {' and '.join(known)}" if known else "in a region that is not known"
        raise Failure(
            f"Account {hub} grants access {where}: name the region with REGION=…. The role of its temp-access has the "
            "region in its name, and in a wrong one, others could create that role."
        )
    if known and chosen not in known:
        raise Failure(
            f"REGION={chosen} contradicts {SAMCONFIG.name}: account {hub} grants access in {' and '.join(known)}."
        )
    return chosen


def make_hub(target: Environment, account: str | None, region: str | None) -> None:
    """Makes the door, prints each change, and then the parameter to set."""
    session = session_of_access(target)
    hub = hub_of(target, account)
    doors = doors_of(target, session)
    lines = list(doors.create(HUB, hub_role(hub, region_of(hub, region, doors.admitted_region(hub)))))
    for line in lines or [f"Nothing to change: alias {HUB} is as it should be."]:
        print(f"  {line}", flush=True)
    print("\nNext:")
    if target.parameters.get("HubAccountId") != hub:
        print(f'- write "HubAccountId={hub}" into parameter_overrides of {target.name} in {SAMCONFIG.name}')
    print(f"- make deploy ENV={target.name}")
    print(
        f"- in the configuration of account {hub}, name this account under [access.accounts]: "
        f'{target.name} = "{target.account}/{target.region}"'
    )


def remove_hub(target: Environment) -> None:
    """Removes the door. From then on, the hub account is refused."""
    lines = list(doors_of(target, session_of_access(target)).remove(HUB))
    for line in lines or [f"Nothing to remove: {FUNCTION} has no alias {HUB}."]:
        print(f"  {line}", flush=True)
    if target.parameters.get("HubAccountId"):
        print(
            f"\nNext:\n- remove HubAccountId of {target.name} from {SAMCONFIG.name}, and make deploy ENV={target.name}"
        )


def main(arguments: list[str]) -> None:
    """Parses the command line, and runs the command."""
    parser = argparse.ArgumentParser(prog="make hub", description="Lets another account's temp-access hand on requests")
    parser.add_argument("--env", required=True, metavar="ENV")
    parser.add_argument("--profile", help="of an administrator; else the environment's own")
    parser.add_argument("--account", help="the account that hands requests on; else HubAccountId in samconfig.toml")
    parser.add_argument("--region", help="where that account grants access; else as in samconfig.toml")
    parser.add_argument("--remove", action="store_true", help="remove the door")
    asked = parser.parse_args(arguments)
    try:
        target = environment(asked.env, asked.profile)
        print(f"Door {FUNCTION}:{HUB} in account {target.account}, {target.region}:", flush=True)
        if asked.remove:
            remove_hub(target)
        else:
            make_hub(target, asked.account, asked.region)
    except ClientError as error:
        sys.exit(f"The door is not complete. {error}{advice(error, 'make hub', asked.env)}")
    except (Failure, BotoCoreError) as error:
        sys.exit(f"Not done. {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
