"""The vocabulary of the table of requests: what each role may do, and similar requests that must be refused.

One of our principals has the policies of its role; any other principal is an administrator of its own account. One of
our resources has its own policy; any other resource admits everybody whom the caller's account allows. So each request
tests one side alone: a request that the identity's policies must refuse goes to a resource that admits it, and a
request that the resource's policy must refuse comes from an administrator.

If one of our roles may do an action, the role must not do it in another account, in another region or on a resource of
another name, and must not do another action on the same resource. `may` adds these four requests, except those that its
argument `anywhere` names.
"""

import re
from dataclasses import dataclass, field

from tests.iam.mutants import type_and_name
from tools.layout import REGION

ELSEWHERE = "eu-west-1"
# The accounts of tests/template/deployed.py: repositories, test, production, all duties in one account, repositories in
# another region, pipelines in an organizational unit.
R, T, P, ALL, E, UNIT_ACCOUNT = (digit * 12 for digit in "123456")
STRANGER = "999999999999"
# The accounts with pipelines, each with the account and the region of the repositories for its pipelines.
WAYS = [(T, R, REGION), (P, R, REGION), (ALL, ALL, REGION), (E, R, ELSEWHERE)]


@dataclass(frozen=True)
class Request:
    """One request and its expected outcome.

    `why` is the side or the Sid of the Deny that refuses the request; None if it is allowed.
    `nearby` means that `may` added the request.
    """

    what: str
    who: str
    does: str
    to: str | None
    account: str
    context: dict = field(hash=False)
    why: str | None = None
    nearby: bool = False

    def __str__(self):
        return f"{self.what}: {self.does}" + (f" (no: {self.why})" if self.why else "")


REQUESTS: list[Request] = []
# The misses that `may` adds on its own. The argument `anywhere` of `may` names the keys of misses to leave out.
NEARBY = {
    "account": "in another account",
    "region": "in another region",
    "name": "on a resource of another name",
    "else": "with another action",
    "else there": "with another action, asked of the resource",
}


def may(what, who, does, to, *misses, context=None, anywhere=(), beyond=None):
    """Adds requests for the actions, which must be allowed, and the misses, which must be refused.

    A miss is a request with a few other fields. The side or the Deny in its `why` must refuse it.
    `beyond` is another action that is not allowed on the resource. It is needed if the action in `ELSE` is allowed.
    """
    context = context or {}
    for action in does.split():
        REQUESTS.append(Request(what, who, action, to, account_of(to, who), context))
        near = [one for one in nearby(who, action, to, beyond) if one["but"] not in anywhere]
        assert set(anywhere) <= set(NEARBY)
        for miss in [*misses, *near]:
            other = {"who": who, "to": to, "does": action, "context": {}} | miss
            merged = {key: value for key, value in (context | other["context"]).items() if value is not None}
            target = other["to"]
            REQUESTS.append(
                Request(
                    f"{what}, but {NEARBY.get(miss['but'], miss['but'])}",
                    other["who"],
                    other["does"],
                    target,
                    account_of(target, other["who"]),
                    merged,
                    miss["why"],
                    miss in near,
                )
            )


# For each service and type of resource, an action that none of our roles may do.
ELSE = {
    "cloudformation:stack": "DeleteStack",
    "cloudwatch:alarm": "DisableAlarmActions",
    "codebuild:project": "StopBuild",
    "codecommit:": "PutFile",
    "codepipeline:": "ListRuleExecutions",
    "dynamodb:table": "DeleteTable",
    "ecr:repository": "DeleteRepository",
    "ecs:service": "DeleteService",
    "events:event-bus": "DeleteEventBus",
    "events:rule": "DisableRule",
    "iam:policy": "SetDefaultPolicyVersion",
    "iam:role": "PutRolePermissionsBoundary",
    "iam:user": "PutUserPermissionsBoundary",
    "identitystore:identitystore": "ListUsers",
    "identitystore:user": "DescribeUser",
    "kms:key": "CreateGrant",
    "lambda:function": "PutRuntimeManagementConfig",
    "lambda:event-source-mapping": "GetEventSourceMapping",
    "lambda:layer": "AddLayerVersionPermission",
    "logs:log-group": "PutSubscriptionFilter",
    "s3:bucket": "PutBucketAcl",
    "s3:object": "DeleteObjectVersion",
    "sns:": "AddPermission",
    "sqs:": "PurgeQueue",
    "ssm:session": "ResumeSession",
    "sts:role": "TagSession",
    "chatbot:chat-configuration": "UpdateChimeWebhookConfiguration",
    # AWS has no other actions on the resources below, so there is nothing to refuse.
    "chatbot:custom-action": None,
    "cloudwatch:dashboard": None,
    "kms:alias": None,
}


def nearby(who, action, to, beyond):
    """Yields the requests that differ least from an allowed request of one of our roles or of a service."""
    ours = re.match(r"arn:aws:iam::([1-6])\1{11}:role/sekisho-", who)
    if to is None or not (ours or not who.startswith("arn:")):
        return
    *head, service, region, account, rest = to.split(":", 5)
    kind, _ = type_and_name(rest)

    def join(region, account, rest):
        return ":".join([*head, service, region, account, rest])

    if ours:
        if account.isdigit():
            yield but("account", "identity", to=join(region, STRANGER, rest))
        if region:
            yield but("region", "identity", to=join(ELSEWHERE if region == REGION else REGION, account, rest))
        yield but("name", "identity", to=join(region, account, renamed(rest)))
    taken = action.partition(":")[0]
    kind = {"s3": "object" if "/" in rest else "bucket"}.get(service, (kind or "").rstrip(":/"))
    if beyond is None and ELSE[f"{taken}:{kind}"] is None:
        return
    other = beyond or f"{taken}:{ELSE[f'{taken}:{kind}']}"
    if ours:
        yield but("else", "identity", does=other)
    if not ours or account_of(to, who) != who.split(":")[4] or taken in ("kms", "sts"):
        yield but("else there", "resource", does=other)


def renamed(rest):
    """Returns the last part of an ARN with another name."""
    kind, name = type_and_name(rest)
    if kind == "log-group:":
        _, colon, stream = name.partition(":")
        return f"log-group:/somebodys{colon}{stream}"
    return (kind or "") + re.sub(r"^[^:/]+", "somebodys", name)


def never(what, who, does, to=None, why="identity", context=None):
    """Adds requests for the actions, none of which is allowed."""
    account = account_of(to, who)
    REQUESTS.extend(Request(what, who, action, to, account, context or {}, why) for action in does.split())


def but(what, why, **other):
    """Returns a miss for `may`: a request that differs in the given fields."""
    return {"but": what, "why": why, **other}


def account_of(resource, who):
    """Returns the account in a bucket's name or in another ARN; without a resource, the caller's account."""
    parts = (resource or "").split(":")
    if len(parts) > 4 and parts[4].isdigit():
        return parts[4]
    if ":s3:::sekisho-artifacts-" in (resource or ""):
        return parts[5].split("-")[2]
    return who.split(":")[4] if who.startswith("arn:") else P


def role(account, what, region=REGION):
    return f"arn:aws:iam::{account}:role/sekisho-{what}-{region}"


def arn(service, account, rest, region=REGION):
    return f"arn:aws:{service}:{region}:{account}:{rest}"


def bucket(account):
    return f"arn:aws:s3:::sekisho-artifacts-{account}-{REGION}"


# Placeholders for the keys: test_requests.py replaces them by the keys' ids, which the deployment creates.
KEY = {account: arn("kms", account, f"key/artifacts-of-{account}") for account, _, _ in WAYS}
SSE, SSE_KEY = "s3:x-amz-server-side-encryption", "s3:x-amz-server-side-encryption-aws-kms-key-id"
VIA_S3 = {"kms:ViaService": f"s3.{REGION}.amazonaws.com"}


def wrong_headers(other_key):
    """Returns misses: writes with headers for another key or another kind of encryption."""
    without = {SSE: None, SSE_KEY: None}
    customer = {"s3:x-amz-server-side-encryption-customer-algorithm": "AES256"}
    return [
        but("under another key", "DenyOtherKeys", context={SSE_KEY: other_key}),
        but("under another key, without an algorithm", "DenyOtherKeys", context={SSE: None, SSE_KEY: other_key}),
        but("under S3's own key", "DenyTheKeyOfS3", context={SSE_KEY: None}),
        but("with keys of S3", "DenyOtherAlgorithms", context={SSE: "AES256", SSE_KEY: None}),
        but("with two layers of encryption", "DenyOtherAlgorithms", context={SSE: "aws:kms:dsse"}),
        but("with a key in the request", "DenyKeysOfCallers", context=without | customer),
    ]


def not_through_s3():
    """Returns misses in which the key is used directly and not through S3. Both sides refuse such a request."""
    return [but(f"not through S3 ({why})", why, context={"kms:ViaService": None}) for why in ("identity", "resource")]
