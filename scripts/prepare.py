#!/usr/bin/env python3
"""Makes an IAM user or role one that temp-access may let in: the access boundary first, then the tag.

    make prepare USER=prd-user ENV=production PROFILE=admin        or ROLE=…

ENV is an environment of samconfig.toml, which says where. PROFILE is whose credentials: the environment's own role deploys,
and may not change users. Nothing is changed where something else stands in the way, and running it again changes nothing.
"""

import argparse
import sys

from botocore.exceptions import BotoCoreError, ClientError
from environment import Refused, environment

TAG = {"Key": "sekisho:access", "Value": "grantable"}


def boundary_of(target, aws):
    """The account's access boundary, which its stack names."""
    if not target.does("GrantsAccess"):
        raise Refused(f"Environment {target.name} (account {target.account}) grants no access: name one with GrantsAccess=true.")
    where = f"account {target.account}, {target.region}"
    try:
        described = aws.client("cloudformation").describe_stacks(StackName=target.stack)["Stacks"][0]
    except ClientError as error:
        if error.response["Error"]["Code"] != "ValidationError":
            raise
        raise Refused(f"There is no stack {target.stack} in {where}: make deploy ENV={target.name} first.") from None
    outputs = {one["OutputKey"]: one["OutputValue"] for one in described.get("Outputs", [])}
    if "AccessBoundaryArn" not in outputs:
        raise Refused(f"Stack {target.stack} in {where} was deployed without GrantsAccess=true: make deploy ENV={target.name} first.")
    return outputs["AccessBoundaryArn"]


def prepare(target, kind, name):
    """Gives the principal boundary and tag; refused where it isn't there, isn't ours to change or has another boundary."""
    aws, account = target.session(), target.account
    boundary = boundary_of(target, aws)
    iam = aws.client("iam")
    by_name = {f"{kind}Name": name}
    try:
        found = getattr(iam, f"get_{kind.lower()}")(**by_name)[kind]
    except iam.exceptions.NoSuchEntityException:
        raise Refused(f"There is no IAM {kind.lower()} {name} in account {account}.") from None
    if found["Path"].startswith(("/aws-reserved/", "/aws-service-role/")):
        raise Refused(f"{name} belongs to an AWS service (path {found['Path']}), which lets nobody change it through IAM.")
    present = found.get("PermissionsBoundary", {}).get("PermissionsBoundaryArn")
    if present not in (None, boundary):
        raise Refused(
            f"{name} has another boundary, {present}. Replacing it would lift what it forbids: take it off yourself if that is meant."
        )
    if present is None:
        getattr(iam, f"put_{kind.lower()}_permissions_boundary")(**by_name, PermissionsBoundary=boundary)
    # After the boundary: with the tag alone it could be granted without a ceiling.
    getattr(iam, f"tag_{kind.lower()}")(**by_name, Tags=[TAG])
    print(f"{kind} {name} in account {account} can be let in: boundary {boundary}, tag {TAG['Key']}={TAG['Value']}.")
    if present is None:
        print("The boundary limits whatever else it may do from now on, always.")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--env", required=True, metavar="ENV")
    parser.add_argument("--profile", help="of somebody who may tag users and set boundaries; else the environment's own")
    principal = parser.add_mutually_exclusive_group(required=True)
    principal.add_argument("--user")
    principal.add_argument("--role")
    asked = parser.parse_args()
    kind, name = ("User", asked.user) if asked.user else ("Role", asked.role)
    try:
        prepare(environment(asked.env, asked.profile), kind, name)
    except ClientError as error:
        who = ""
        if error.response["Error"]["Code"] in ("AccessDenied", "AccessDeniedException"):
            who = (f"\nThe role that deploys may not do this, by design. Who may tag users and set boundaries can, mostly an administrator: "
                   f"make prepare {kind.upper()}={name} ENV={asked.env} PROFILE=(their profile in ~/.aws/config)")
        sys.exit(f"Nothing was prepared. {error}{who}")
    except (Refused, BotoCoreError) as error:
        sys.exit(f"Nothing was prepared. {error}")


if __name__ == "__main__":
    main()
