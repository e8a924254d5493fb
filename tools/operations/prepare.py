"""Makes an IAM user or role eligible for temp-access: sets the access boundary first, then the tag.

    make prepare USER=prd-user ENV=production PROFILE=admin        or ROLE=…

ENV is an environment in samconfig.toml. PROFILE names an administrator's credentials, because the environment's own
role is for deployment and may not change users. If the user or role can't be prepared, the command changes nothing.
A second run changes nothing, either. The command warns about whatever makes the user or role stronger than a profile.
"""

import argparse
import sys

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from tools.failure import Failure
from tools.operations import strength
from tools.operations.environment import Environment, environment

TAG = {"Key": "sekisho:access", "Value": "grantable"}


def access_boundary(target: Environment, session: boto3.Session) -> str:
    """The ARN of the account's access boundary, from the stack's outputs."""
    if not target.does("GrantsAccess"):
        raise Failure(
            f"Environment {target.name} (account {target.account}) grants no access: "
            "use an environment with GrantsAccess=true."
        )
    where = f"account {target.account}, {target.region}"
    try:
        described = session.client("cloudformation").describe_stacks(StackName=target.stack)["Stacks"][0]
    except ClientError as error:
        if error.response["Error"]["Code"] != "ValidationError":
            raise
        raise Failure(f"There is no stack {target.stack} in {where}: make deploy ENV={target.name} first.") from None
    outputs = {output["OutputKey"]: output["OutputValue"] for output in described.get("Outputs", [])}
    if "AccessBoundaryArn" not in outputs:
        raise Failure(
            f"Stack {target.stack} in {where} was deployed without GrantsAccess=true: "
            f"make deploy ENV={target.name} first."
        )
    return outputs["AccessBoundaryArn"]


def prepare(target: Environment, kind: str, name: str) -> None:
    """Gives the user or role the boundary and the tag.

    Fails if the user or role does not exist, belongs to AWS, or has another boundary.
    """
    session, account = target.session(), target.account
    boundary = access_boundary(target, session)
    iam = session.client("iam")
    by_name = {f"{kind}Name": name}
    try:
        found = getattr(iam, f"get_{kind.lower()}")(**by_name)[kind]
    except iam.exceptions.NoSuchEntityException:
        raise Failure(f"There is no IAM {kind.lower()} {name} in account {account}.") from None
    if found["Path"].startswith(("/aws-reserved/", "/aws-service-role/")):
        raise Failure(f"{name} belongs to an AWS service (path {found['Path']}), which allows no changes through IAM.")
    present = found.get("PermissionsBoundary", {}).get("PermissionsBoundaryArn")
    if present not in (None, boundary):
        raise Failure(
            f"{name} has another boundary, {present}. Replacing that boundary would allow what it forbids: "
            "remove it yourself if that is your intention."
        )
    if present is None:
        getattr(iam, f"put_{kind.lower()}_permissions_boundary")(**by_name, PermissionsBoundary=boundary)
    # The tag comes after the boundary. With the tag alone, access without a ceiling could be granted.
    getattr(iam, f"tag_{kind.lower()}")(**by_name, Tags=[TAG])
    print(
        f"temp-access can grant access to {kind.lower()} {name} in account {account}: "
        f"boundary {boundary}, tag {TAG['Key']}={TAG['Value']}."
    )
    if present is None:
        print(f"From now on, the boundary always limits all permissions of the {kind.lower()}.")
    for warning in strength.warnings(session, kind, name, found["Arn"], account):
        print(f"Warning: {warning}")


def main(arguments: list[str]) -> None:
    """Parses the command line, and runs the command."""
    parser = argparse.ArgumentParser(
        prog="make prepare", description="Makes an IAM user or role eligible for temp-access"
    )
    parser.add_argument("--env", required=True, metavar="ENV")
    parser.add_argument(
        "--profile", help="of somebody who may tag users and set boundaries; else the environment's own"
    )
    principal = parser.add_mutually_exclusive_group(required=True)
    principal.add_argument("--user")
    principal.add_argument("--role")
    asked = parser.parse_args(arguments)
    kind, name = ("User", asked.user) if asked.user else ("Role", asked.role)
    try:
        prepare(environment(asked.env, asked.profile), kind, name)
    except ClientError as error:
        advice = ""
        if error.response["Error"]["Code"] in ("AccessDenied", "AccessDeniedException"):
            advice = (
                "\nThe role for deployment may not do this, by design. Somebody who may tag users and set boundaries, "
                "usually an administrator, can: "
                f"make prepare {kind.upper()}={name} ENV={asked.env} PROFILE=(their profile in ~/.aws/config)"
            )
        sys.exit(f"Nothing was prepared. {error}{advice}")
    except (Failure, BotoCoreError) as error:
        sys.exit(f"Nothing was prepared. {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
