"""What the system does and may do, request by request, and beside each the nearest thing that it may not.

A principal of ours has the policies of its role; anybody else is an administrator of their own account. A resource of ours
has its own policy; anybody else's lets in whom the caller's account lets go. Each border is tried from each side alone: what
the identity must refuse is asked of a resource that lets it in, what the resource must refuse is asked by an administrator.

Whatever a role of ours may do, it may not do in another account, in another region or to something of another name, nor may it do
something else there: `may` adds these four, but for what its `anywhere` names.
"""

import re
from dataclasses import dataclass, field

from tests.iam.mutants import NAMED

REGION, ELSEWHERE = "ap-northeast-1", "eu-west-1"
# The accounts of tests/template/deployed.py: repositories, test, production; all duties at once; repositories in another region;
# pipelines in an organizational unit.
R, T, P, ALL, E, O = (digit * 12 for digit in "123456")
STRANGER = "999999999999"
# The accounts with pipelines, whose repositories they take, and from which region.
WAYS = [(T, R, REGION), (P, R, REGION), (ALL, ALL, REGION), (E, R, ELSEWHERE)]


@dataclass(frozen=True)
class Request:
    """One request and its expected outcome; `why` is the side, or the Sid of the Deny, that refuses it. `nearby`: added by `may`."""

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


def may(what, who, does, to, *misses, context=None, anywhere=(), beyond=None):
    """Each of the actions is allowed; each miss differs in what it names, and is refused for its `why`. `beyond`: something else that
    is not allowed there, where `ELSE` names what is."""
    context = context or {}
    for action in does.split():
        REQUESTS.append(Request(what, who, action, to, account_of(to, who), context))
        near = [one for one in nearby(who, action, to, beyond) if one["but"] not in anywhere]
        assert set(anywhere) <= {"account", "region", "name", "else", "else there"}
        for miss in [*misses, *near]:
            other = {"who": who, "to": to, "does": action, "context": {}} | miss
            merged = {key: value for key, value in (context | other["context"]).items() if value is not None}
            target = other["to"]
            REQUESTS.append(
                Request(
                    f"{what}, but {miss['but']}",
                    other["who"],
                    other["does"],
                    target,
                    account_of(target, other["who"]),
                    merged,
                    miss["why"],
                    miss in near,
                )
            )


# Something that no role of ours may do, by service and type of resource.
ELSE = {
    "cloudformation:stack": "DeleteStack",
    "cloudwatch:alarm": "DisableAlarmActions",
    "codebuild:project": "StopBuild",
    "codecommit:": "PutFile",
    "codepipeline:": "StopPipelineExecution",
    "dynamodb:table": "DeleteTable",
    "events:event-bus": "DeleteEventBus",
    "events:rule": "DisableRule",
    "iam:policy": "SetDefaultPolicyVersion",
    "iam:role": "PutRolePermissionsBoundary",
    "iam:user": "PutUserPermissionsBoundary",
    "kms:key": "CreateGrant",
    "lambda:function": "PutFunctionConcurrency",
    "lambda:layer": "AddLayerVersionPermission",
    "logs:log-group": "PutSubscriptionFilter",
    "s3:bucket": "PutBucketAcl",
    "s3:object": "DeleteObjectVersion",
    "sns:": "AddPermission",
    "sqs:": "PurgeQueue",
    "sts:role": "TagSession",
    "chatbot:chat-configuration": "DeleteMicrosoftTeamsChannelConfiguration",
    # AWS knows nothing else to do with these.
    "chatbot:custom-action": None,
    "cloudwatch:dashboard": None,
    "kms:alias": None,
}


def nearby(who, action, to, beyond):
    """What is nearest to something that a role of ours, or a service, may do."""
    ours = re.match(r"arn:aws:iam::([1-6])\1{11}:role/sekisho-", who)
    if to is None or not (ours or not who.startswith("arn:")):
        return
    *head, service, region, account, rest = to.split(":", 5)
    kind, _ = NAMED.match(rest).groups()
    join = lambda region, account, rest: ":".join([*head, service, region, account, rest])
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
    """The last part of an ARN, with another name."""
    kind, name = NAMED.match(rest).groups()
    if kind == "log-group:":
        _, colon, stream = name.partition(":")
        return f"log-group:/somebodys{colon}{stream}"
    return (kind or "") + re.sub(r"^[^:/]+", "somebodys", name)


def never(what, who, does, to=None, why="identity", context=None):
    """None of the actions is allowed."""
    for action in does.split():
        REQUESTS.append(Request(what, who, action, to, account_of(to, who), context or {}, why))


def but(what, why, **other):
    return {"but": what, "why": why, **other}


def account_of(resource, who):
    """The account that a resource is in: buckets carry it in their name, the rest in the ARN; else the caller's own."""
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


KEY = {
    account: arn("kms", account, f"key/artifacts-of-{account}") for account, _, _ in WAYS
}  # made real by the test, which knows the ids
VIA_S3 = {"kms:ViaService": f"s3.{REGION}.amazonaws.com"}


def not_through_s3():
    return [but(f"not through S3 ({why})", why, context={"kms:ViaService": None}) for why in ("identity", "resource")]
