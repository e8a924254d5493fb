"""What makes a prepared user or role stronger than the profiles that people may ask for.

A grant adds a policy to the principal. Whatever the principal is allowed besides is not limited to a window, and some
of it is not even limited by the access boundary.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

# The prefix of the policies that temp-access writes.
OURS = "sekisho-"


def warnings(session: boto3.Session, kind: str, name: str, arn: str, account: str) -> Iterator[str]:
    """One sentence for each thing that makes the principal stronger, or that could not be checked."""
    checks: list[tuple[str, Callable[[], Iterator[str]]]] = [
        ("its policies", lambda: _policies(session.client("iam"), kind, name)),
        ("the roles that trust it", lambda: _roles(session.client("iam"), arn)),
        ("the access entries of EKS", lambda: _access_entries(session.client("eks"), arn)),
        ("the settings of the organization", lambda: _management_account(session.client("organizations"), account)),
    ]
    for what, check in checks:
        try:
            yield from check()
        except (ClientError, BotoCoreError) as error:
            yield f"This could not be checked: {what}. They may make it stronger: {error}"


def _policies(iam: Any, kind: str, name: str) -> Iterator[str]:
    by_name = {f"{kind}Name": name}
    pages = iam.get_paginator(f"list_attached_{kind.lower()}_policies").paginate(**by_name)
    attached = [one["PolicyName"] for page in pages for one in page["AttachedPolicies"]]
    pages = iam.get_paginator(f"list_{kind.lower()}_policies").paginate(**by_name)
    inline = [one for page in pages for one in page["PolicyNames"] if not one.startswith(OURS)]
    if attached or inline:
        yield f"It has other policies, which allow things at any time: {', '.join(sorted(attached + inline))}."
    if kind == "User":
        pages = iam.get_paginator("list_groups_for_user").paginate(**by_name)
        if groups := [one["GroupName"] for page in pages for one in page["Groups"]]:
            yield f"It gets the policies of its groups at any time: {', '.join(sorted(groups))}."


def _roles(iam: Any, arn: str) -> Iterator[str]:
    pages = iam.get_paginator("list_roles").paginate()
    trusting = [one["Arn"] for page in pages for one in page["Roles"] if _trusts(one["AssumeRolePolicyDocument"], arn)]
    if trusting:
        yield (
            "These roles name it in their trust policies, so it needs no other policy to assume them. The access "
            f"boundary denies that, except for the roles in AssumableRoleArns: {', '.join(sorted(trusting))}."
        )


def _trusts(document: Any, arn: str) -> bool:
    """Whether a trust policy allows the principal by name, or everybody, to assume the role."""
    statements = (json.loads(document) if isinstance(document, str) else document).get("Statement", [])
    for statement in statements if isinstance(statements, list) else [statements]:
        principal = statement.get("Principal", {})
        named = principal.get("AWS", []) if isinstance(principal, dict) else principal
        if statement.get("Effect") == "Allow" and {"*", arn} & set([named] if isinstance(named, str) else named):
            return True
    return False


def _access_entries(eks: Any, arn: str) -> Iterator[str]:
    clusters = [one for page in eks.get_paginator("list_clusters").paginate() for one in page["clusters"]]
    for cluster in clusters:
        pages = eks.get_paginator("list_access_entries").paginate(clusterName=cluster)
        if arn in [one for page in pages for one in page["accessEntries"]]:
            yield (
                f"The EKS cluster {cluster} has an access entry for it, and no policy of IAM limits what that allows. "
                f"Clusters of other regions than {eks.meta.region_name} are not checked."
            )


def _management_account(organizations: Any, account: str) -> Iterator[str]:
    try:
        organization = organizations.describe_organization()["Organization"]
    except organizations.exceptions.AWSOrganizationsNotInUseException:
        return
    if organization["MasterAccountId"] == account:
        yield (
            f"Account {account} is the organization's management account: no policy of the organization limits it, "
            "and it can change the other accounts. Let people into another account."
        )
