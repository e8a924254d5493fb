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


# ---- What every function does ------------------------------------------------------------------------------------------

for account, what, function in [
    *((account, "event-relay", "sekisho-event-relay") for account in (R, ALL, O)),
    *(
        (account, what, f"sekisho-{what}")
        for account, _, _ in WAYS
        for what in ("pipeline-starter", "artifact-checker")
    ),
    *((account, "temp-access", "temp-access") for account in (P, ALL)),
]:
    who = role(account, what)
    logs = "log-group:/aws/lambda/{}:log-stream:one"
    may(
        "logs",
        who,
        "logs:CreateLogStream logs:PutLogEvents",
        arn("logs", account, logs.format(function)),
        but("in another function's log", "identity", to=arn("logs", account, logs.format("shop-api"))),
    )
    more = {"temp-access": " dynamodb:Query dynamodb:DeleteItem", "artifact-checker": ""}.get(what, " dynamodb:Query")
    may(
        "uses the ledger",
        who,
        f"dynamodb:GetItem dynamodb:PutItem{more}",
        arn("dynamodb", account, "table/sekisho-ledger"),
        but("another table", "identity", to=arn("dynamodb", account, "table/orders")),
    )
    if what != "temp-access":
        queue = arn("sqs", account, f"{function}-dead-letters")
        may(
            "gives up on an event",
            who,
            "sqs:SendMessage",
            queue,
            but("in another queue", "identity", to=arn("sqs", account, "orders")),
        )
    if what != "event-relay":
        may(
            "tells people",
            who,
            "sns:Publish",
            arn("sns", account, "sekisho-notices"),
            but("on another topic", "identity", to=arn("sns", account, "orders")),
        )
    may(
        "takes its role",
        "lambda.amazonaws.com",
        "sts:AssumeRole",
        who,
        but("as another service", "resource", who="ec2.amazonaws.com"),
        but("as somebody of another account", "resource", who=f"arn:aws:iam::{STRANGER}:role/anybody"),
    )

RELAY_RULES = {"sekisho-event-relay": ["sekisho-repository-change", "sekisho-pull-request-merge", "sekisho-reconcile"]}
PIPELINE_RULES = {
    "sekisho-pipeline-starter": ["sekisho/sekisho-source-change", "sekisho-pipeline-end"],
    "sekisho-artifact-checker": ["sekisho-artifact-write", "sekisho-artifact-sweep"],
}
ACCESS_RULES = {"temp-access": ["sekisho-access-sweep"]}
RULES = {
    R: RELAY_RULES,
    T: PIPELINE_RULES,
    P: PIPELINE_RULES | ACCESS_RULES,
    ALL: RELAY_RULES | PIPELINE_RULES | ACCESS_RULES,
    E: PIPELINE_RULES,
    O: RELAY_RULES,
}
for account, functions in RULES.items():
    for function, rules in functions.items():
        for rule in rules:
            by = {"aws:SourceArn": arn("events", account, f"rule/{rule}"), "aws:SourceAccount": account}
            other = but("for another rule", "resource", context={"aws:SourceArn": arn("events", account, "rule/other")})
            may(
                "invokes by its rule",
                "events.amazonaws.com",
                "lambda:InvokeFunction",
                arn("lambda", account, f"function:{function}"),
                other,
                but("as another service", "resource", who="s3.amazonaws.com"),
                context=by,
            )
            if function != "temp-access":
                may(
                    "gives up on a delivery",
                    "events.amazonaws.com",
                    "sqs:SendMessage",
                    arn("sqs", account, f"{function}-dead-letters"),
                    other,
                    but("for another account", "resource", context={"aws:SourceAccount": STRANGER}),
                    but("as another service", "resource", who="s3.amazonaws.com"),
                    context=by,
                )
for account in RULES:
    may(
        "raises an alarm",
        "cloudwatch.amazonaws.com",
        "sns:Publish",
        arn("sns", account, "sekisho-notices"),
        but("another alarm", "resource", context={"aws:SourceArn": arn("cloudwatch", account, "alarm:orders")}),
        but("for another account", "resource", context={"aws:SourceAccount": STRANGER}),
        but("as another service", "resource", who="s3.amazonaws.com"),
        context={
            "aws:SourceArn": arn("cloudwatch", account, "alarm:sekisho-event-relay-errors"),
            "aws:SourceAccount": account,
        },
    )
may(
    "tells the channel of an approval",
    "events.amazonaws.com",
    "sns:Publish",
    arn("sns", P, "sekisho-notices-chat"),
    but("by another rule", "resource", context={"aws:SourceArn": arn("events", P, "rule/orders")}),
    but(
        "of another account",
        "resource",
        context={"aws:SourceArn": arn("events", STRANGER, "rule/sekisho-approval-waits")},
    ),
    but("as another service", "resource", who="s3.amazonaws.com"),
    context={"aws:SourceArn": arn("events", P, "rule/sekisho-approval-waits")},
)

# ---- Repository account → pipeline account: the bus ----------------------------------------------------------------------

CHANGE = {"events:source": "sekisho.relay", "events:detail-type": "Source Change"}
for account in (R, ALL, O):
    relay, shop = role(account, "event-relay"), arn("codecommit", account, "shop")
    may(
        "reads a repository",
        relay,
        "codecommit:GetBranch codecommit:GetDifferences codecommit:ListBranches",
        shop,
        anywhere=["name"],
    )
    may("looks for repositories", relay, "codecommit:ListRepositories", None)
    never(
        "doesn't write to a repository",
        relay,
        "codecommit:GitPush codecommit:CreateCommit codecommit:DeleteBranch",
        shop,
    )
for account, repositories, region in WAYS:
    relay = role(repositories, "event-relay", region)
    # Within one account what the identity may do needs no bus's leave.
    across = account != repositories
    may(
        "relays a change",
        relay,
        "events:PutEvents",
        arn("events", account, "event-bus/sekisho"),
        *(
            [
                but("on the default bus", "identity", to=arn("events", account, "event-bus/default")),
                but(
                    "on a stranger's bus that lets everybody in",
                    "identity",
                    to=arn("events", STRANGER, "event-bus/sekisho"),
                ),
            ]
            if region == REGION
            else []
        ),
        *(
            [
                but("as AWS itself", "resource", context={"events:source": "aws.codecommit"}),
                but("as another kind of event", "resource", context={"events:detail-type": "Deploy"}),
                but("without a source", "resource", context={"events:source": None}),
                but("without a kind", "resource", context={"events:detail-type": None}),
                but("by another role of that account", "resource", who=f"arn:aws:iam::{repositories}:role/admin"),
            ]
            if across
            else []
        ),
        but("by a stranger's role of the same name", "resource", who=role(STRANGER, "event-relay")),
        context=CHANGE,
        anywhere=["region"] if region == REGION else ["account", "region", "name", "else"],
    )
# Where the repository account names an organizational unit: an account of it, by its path.
MEMBER, UNIT, OTHER_UNIT = (
    "777777777777",
    "o-a1b2c3d4e5/r-ab12/ou-ab12-11111111/",
    "o-a1b2c3d4e5/r-ab12/ou-ab12-99999999/",
)
IN_UNIT = {"aws:ResourceOrgPaths": [UNIT + "ou-ab12-22222222/"]}


def outside(why, key):
    return [
        but("of another organizational unit", why, context={key: [OTHER_UNIT]}),
        but("of no organization", why, context={key: None}),
    ]


may(
    "relays a change into the organizational unit",
    role(O, "event-relay"),
    "events:PutEvents",
    arn("events", MEMBER, "event-bus/sekisho"),
    *outside("identity", "aws:ResourceOrgPaths"),
    context=CHANGE | IN_UNIT,
    anywhere=["account", "region", "else there"],
)

# ---- Pipeline account → repository account: the source action, its artifact and the key ----------------------------------

for account, repositories, region in WAYS:
    pipeline, source, across = (
        role(account, "pipeline"),
        role(repositories, "source-action", region),
        account != repositories,
    )
    # A source role that is not deployed here is an administrator: it shows what bucket and key say of it.
    deployed_here = region == REGION
    may(
        "takes the source action's role",
        pipeline,
        "sts:AssumeRole",
        source,
        but("a stranger's", "identity", to=role(STRANGER, "source-action")),
        but("another role of the repository account", "identity", to=f"arn:aws:iam::{repositories}:role/admin"),
        but(
            "that of another region",
            "identity",
            to=role(repositories, "source-action", ELSEWHERE if region == REGION else REGION),
        ),
        *(
            [
                but("as another role of this account", "resource", who=f"arn:aws:iam::{account}:role/admin"),
                but("as pipeline-starter", "resource", who=role(account, "pipeline-starter")),
                but("as a stranger's pipeline", "resource", who=role(STRANGER, "pipeline")),
            ]
            if deployed_here
            else []
        ),
        anywhere=[] if deployed_here else ["else there"],
    )
    object_ = bucket(account) + "/shop/Source/abc.zip"
    encrypted = {"s3:x-amz-server-side-encryption-aws-kms-key-id": KEY[account], "aws:SecureTransport": "true"}
    may(
        "puts the source",
        source,
        "s3:PutObject",
        object_,
        *(
            [
                but(
                    "into a stranger's bucket that lets everybody in",
                    "identity",
                    to=f"arn:aws:s3:::sekisho-artifacts-{STRANGER}-{REGION}/shop/Source/abc.zip",
                )
            ]
            if deployed_here
            else []
        ),
        but("by plain HTTP", "DenyPlainHttp", context={"aws:SecureTransport": "false"}),
        but("as a package", "DenyOtherPackagers", to=bucket(account) + "/packages/shop/abc"),
        *(
            [but("as another role of that account", "resource", who=f"arn:aws:iam::{repositories}:role/admin")]
            if across
            else []
        ),
        but("as a stranger's role of the same name", "resource", who=role(STRANGER, "source-action")),
        *(
            [
                but(
                    "under another key",
                    "DenyOtherKeys",
                    context={"s3:x-amz-server-side-encryption-aws-kms-key-id": arn("kms", R, "key/other")},
                ),
                but("without a key", "DenyOtherKeys", context={"s3:x-amz-server-side-encryption-aws-kms-key-id": None}),
            ]
            if account != T
            else []
        ),
        context=encrypted,
        anywhere=[] if deployed_here else ["name", "else"],
    )
    may(
        "hands the source to the bucket's account",
        source,
        "s3:PutObjectAcl",
        object_,
        *(
            [but("as another role of that account", "resource", who=f"arn:aws:iam::{repositories}:role/admin")]
            if across
            else []
        ),
        context={"aws:SecureTransport": "true"},
        anywhere=[] if deployed_here else ["name", "else"],
    )
    may(
        "encrypts the source",
        source,
        "kms:GenerateDataKey kms:Decrypt",
        KEY[account],
        *(not_through_s3() if deployed_here else []),
        but("through S3 of another region", "resource", context={"kms:ViaService": f"s3.{ELSEWHERE}.amazonaws.com"}),
        but("as another role of that account", "resource", who=f"arn:aws:iam::{repositories}:role/admin"),
        but("as a stranger's role of the same name", "resource", who=role(STRANGER, "source-action")),
        context=VIA_S3,
        anywhere=["region", "name"] if deployed_here else ["account", "region", "name", "else"],
    )
    if deployed_here:
        never(
            "doesn't read artifacts",
            source,
            "s3:GetObject s3:DeleteObject",
            object_,
            context={"aws:SecureTransport": "true"},
        )
        never(
            "doesn't go further with the key",
            source,
            "kms:Encrypt kms:CreateGrant kms:DescribeKey",
            KEY[account],
            context={},
        )
for account in (R, ALL, O):
    source, shop = role(account, "source-action"), arn("codecommit", account, "shop")
    may(
        "reads the source",
        source,
        "codecommit:CancelUploadArchive codecommit:GetBranch codecommit:GetCommit codecommit:GetUploadArchiveStatus codecommit:UploadArchive",
        shop,
        anywhere=["name"],
    )
    never(
        "doesn't write to a repository", source, "codecommit:GitPush codecommit:GitPull codecommit:DeleteBranch", shop
    )
SOURCE, OBJECT = role(O, "source-action"), f"arn:aws:s3:::sekisho-artifacts-{MEMBER}-{REGION}/shop/Source/abc.zip"
may(
    "is taken from the organizational unit",
    role(MEMBER, "pipeline"),
    "sts:AssumeRole",
    SOURCE,
    *outside("resource", "aws:PrincipalOrgPaths"),
    but("as pipeline-starter", "resource", who=role(MEMBER, "pipeline-starter")),
    but("for its tags", "resource", does="sts:TagSession"),
    context={"aws:PrincipalOrgPaths": [UNIT]},
)
may(
    "puts the source into the organizational unit",
    SOURCE,
    "s3:PutObject s3:PutObjectAcl",
    OBJECT,
    *outside("identity", "aws:ResourceOrgPaths"),
    context=IN_UNIT,
    anywhere=["account", "else there"],
)
may(
    "encrypts it there",
    SOURCE,
    "kms:GenerateDataKey kms:Decrypt",
    arn("kms", MEMBER, "key/artifacts"),
    *outside("identity", "aws:ResourceOrgPaths"),
    but("not through S3", "identity", context={"kms:ViaService": None}),
    context=VIA_S3 | IN_UNIT,
    anywhere=["account", "region", "name", "else there"],
)

# ---- Pipeline account: starter, key, pipeline, build, deployment ---------------------------------------------------------

for account, _, _ in WAYS:
    starter, pipeline, build, cloudformation = (
        role(account, what) for what in ("pipeline-starter", "pipeline", "build", "cloudformation")
    )
    checker = role(account, "artifact-checker")
    artifacts, key = bucket(account), KEY[account]
    tls = {"aws:SecureTransport": "true"}
    plain = but("by plain HTTP", "DenyPlainHttp", context={"aws:SecureTransport": "false"})
    elsewhere = but("of another bucket", "identity", to="arn:aws:s3:::somebodys-bucket/one.zip")
    shop = arn("codepipeline", account, "shop")
    may(
        "starts a pipeline",
        starter,
        "codepipeline:StartPipelineExecution codepipeline:GetPipelineExecution codepipeline:ListActionExecutions "
        "codepipeline:ListPipelineExecutions",
        shop,
        anywhere=["name"],
    )
    never(
        "doesn't change a pipeline",
        starter,
        "codepipeline:UpdatePipeline codepipeline:DeletePipeline codepipeline:PutApprovalResult",
    )

    for who, service, source, other in [
        (
            pipeline,
            "codepipeline.amazonaws.com",
            arn("codepipeline", account, "shop"),
            arn("codepipeline", account, "shop", "eu-west-1"),
        ),
        (
            build,
            "codebuild.amazonaws.com",
            arn("codebuild", account, "project/shop"),
            arn("codebuild", account, "project/other"),
        ),
        (
            cloudformation,
            "cloudformation.amazonaws.com",
            arn("cloudformation", account, "stack/shop/1"),
            arn("cloudformation", account, "stack/other/1"),
        ),
    ]:
        may(
            "is taken by its service",
            service,
            "sts:AssumeRole",
            who,
            but("for something else", "resource", context={"aws:SourceArn": other}),
            but("for another account", "resource", context={"aws:SourceAccount": STRANGER}),
            but("by another service", "resource", who="ec2.amazonaws.com"),
            but("by a stranger", "resource", who=f"arn:aws:iam::{STRANGER}:role/anybody"),
            context={"aws:SourceArn": source, "aws:SourceAccount": account},
        )

    write = tls | {"s3:x-amz-server-side-encryption-aws-kms-key-id": key}
    for who in (pipeline, build, cloudformation, checker):
        may(
            "reads artifacts",
            who,
            "s3:GetObject s3:GetObjectVersion",
            artifacts + "/shop/one.zip",
            elsewhere,
            plain,
            context=tls,
        )
    for who in (pipeline, build, checker):
        may(
            "writes artifacts",
            who,
            "s3:PutObject",
            artifacts + "/shop/one.zip",
            elsewhere,
            plain,
            *(
                [
                    but(
                        "under another key",
                        "DenyOtherKeys",
                        context={"s3:x-amz-server-side-encryption-aws-kms-key-id": arn("kms", account, "key/other")},
                    ),
                    but(
                        "without a key",
                        "DenyOtherKeys",
                        context={"s3:x-amz-server-side-encryption-aws-kms-key-id": None},
                    ),
                ]
                if account != T
                else []
            ),
            context=write,
        )
    for who in (pipeline, cloudformation, starter, f"arn:aws:iam::{account}:role/admin"):
        never(
            "doesn't leave a package",
            who,
            "s3:PutObject",
            artifacts + "/packages/shop/abc",
            "DenyOtherPackagers",
            write,
        )
    for who in (build, checker):
        may(
            "leaves a package" if who == build else "mends a package",
            who,
            "s3:PutObject",
            artifacts + "/packages/shop/abc",
            context=write,
        )
    if account == T:
        may("lets a wrong write in, to be mended", pipeline, "s3:PutObject", artifacts + "/shop/one.zip", context=tls)
    may(
        "finds the bucket",
        pipeline,
        "s3:GetBucketLocation s3:GetBucketVersioning",
        artifacts,
        but("another one", "identity", to="arn:aws:s3:::somebodys-bucket"),
        plain,
        context=tls,
    )
    for who, actions, anywhere in [
        (pipeline, "kms:Decrypt kms:GenerateDataKey", []),
        (build, "kms:Decrypt kms:GenerateDataKey", []),
        (cloudformation, "kms:Decrypt", []),
        (checker, "kms:Encrypt kms:GenerateDataKey kms:ReEncryptTo", []),
        (checker, "kms:Decrypt kms:ReEncryptFrom", ["name"]),
    ]:
        may(
            "uses the key",
            who,
            actions,
            key,
            *not_through_s3(),
            but("as an administrator of the account", "resource", who=f"arn:aws:iam::{account}:role/admin"),
            but(
                "through S3 of another region", "identity", context={"kms:ViaService": f"s3.{ELSEWHERE}.amazonaws.com"}
            ),
            context=VIA_S3,
            anywhere=anywhere,
        )
    never(
        "doesn't use the key directly, even as an administrator",
        f"arn:aws:iam::{account}:role/admin",
        "kms:Decrypt kms:Encrypt kms:GenerateDataKey kms:CreateGrant",
        key,
        why="resource",
    )
    never(
        "doesn't use the key for others",
        f"arn:aws:iam::{account}:role/admin",
        "kms:Decrypt",
        key,
        why="resource",
        context={"kms:ViaService": f"secretsmanager.{REGION}.amazonaws.com"},
    )
    may(
        "administers the key",
        f"arn:aws:iam::{account}:role/admin",
        "kms:CancelKeyDeletion kms:CreateAlias kms:DeleteAlias kms:DescribeKey kms:DisableKey kms:EnableKey kms:EnableKeyRotation "
        "kms:GetKeyPolicy kms:GetKeyRotationStatus kms:ListGrants kms:ListKeyPolicies kms:ListResourceTags "
        "kms:PutKeyPolicy kms:RevokeGrant kms:ScheduleKeyDeletion kms:TagResource kms:UntagResource kms:UpdateAlias kms:UpdateKeyDescription",
        key,
        but("from another account", "resource", who=f"arn:aws:iam::{STRANGER}:role/admin"),
    )
    other_key = arn("kms", account, "key/somebodys")
    for who in (pipeline, build, cloudformation):
        never("doesn't use another key", who, "kms:Decrypt", other_key, context=VIA_S3)
    never(
        "doesn't write under another key",
        checker,
        "kms:Encrypt kms:GenerateDataKey kms:ReEncryptTo",
        other_key,
        context=VIA_S3,
    )

    build_logs = arn("logs", account, "log-group:/aws/codebuild/shop:log-stream:one")
    may("makes a build's log", build, "logs:CreateLogGroup", arn("logs", account, "log-group:/aws/codebuild/shop"))
    may(
        "logs a build",
        build,
        "logs:CreateLogStream logs:PutLogEvents",
        build_logs,
        but(
            "in another project's log",
            "identity",
            to=arn("logs", account, "log-group:/aws/codebuild/other:log-stream:one"),
        ),
    )
    may(
        "builds",
        pipeline,
        "codebuild:StartBuild codebuild:BatchGetBuilds",
        arn("codebuild", account, "project/shop"),
        but("another project", "identity", to=arn("codebuild", account, "project/other")),
    )
    may(
        "deploys by change set",
        pipeline,
        "cloudformation:CreateChangeSet cloudformation:DeleteChangeSet cloudformation:DescribeChangeSet cloudformation:DescribeStacks cloudformation:ExecuteChangeSet",
        arn("cloudformation", account, "stack/shop/1"),
        but("our own stack", "identity", to=arn("cloudformation", account, "stack/sekisho/1")),
    )
    may(
        "deploys as CloudFormation's role",
        pipeline,
        "iam:PassRole",
        cloudformation,
        but("another role", "identity", to=f"arn:aws:iam::{account}:role/admin"),
        but("to another service", "identity", context={"iam:PassedToService": "lambda.amazonaws.com"}),
        context={"iam:PassedToService": "cloudformation.amazonaws.com"},
    )
    may(
        "asks for approval",
        pipeline,
        "sns:Publish",
        arn("sns", account, "sekisho-notices"),
        but("on another topic", "identity", to=arn("sns", account, "orders")),
    )

    function, group = (
        arn("lambda", account, "function:shop-Hello-1A2B"),
        arn("logs", account, "log-group:/aws/lambda/shop-Hello-1A2B"),
    )
    application = f"arn:aws:iam::{account}:role/shop-HelloRole-1A2B"
    basic = {"iam:PolicyARN": "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"}
    may(
        "makes a function",
        cloudformation,
        "lambda:AddPermission lambda:CreateFunction lambda:DeleteFunction lambda:GetFunction lambda:GetFunctionCodeSigningConfig lambda:GetFunctionConfiguration "
        "lambda:GetFunctionRecursionConfig lambda:GetFunctionScalingConfig lambda:GetPolicy lambda:GetRuntimeManagementConfig lambda:ListTags "
        "lambda:RemovePermission lambda:TagResource lambda:UntagResource lambda:UpdateFunctionCode lambda:UpdateFunctionConfiguration",
        function,
        but("of our own", "identity", to=arn("lambda", account, "function:temp-access")),
    )
    may(
        "makes its log",
        cloudformation,
        "logs:CreateLogGroup logs:DeleteLogGroup logs:DeleteRetentionPolicy logs:GetDataProtectionPolicy logs:ListTagsForResource "
        "logs:PutRetentionPolicy logs:TagResource logs:UntagResource",
        group,
        but("of our own", "identity", to=arn("logs", account, "log-group:/aws/lambda/temp-access")),
    )
    may(
        "looks for logs",
        cloudformation,
        "logs:DescribeIndexPolicies logs:DescribeLogGroups logs:DescribeResourcePolicies",
        None,
    )
    grantable = [
        but("one that temp-access would let in", "MakeNobodyGrantable", context={"aws:TagKeys": ["team", key]})
        for key in ("sekisho:access", "Sekisho:Access")
    ]
    for does, misses in [
        (
            "iam:CreateRole",
            [
                *grantable,
                but(
                    "one with the boundary of who is let in",
                    "LeaveTheAccessBoundary",
                    context={"iam:PermissionsBoundary": f"arn:aws:iam::{account}:policy/sekisho-access-boundary"},
                ),
            ],
        ),
        ("iam:TagRole iam:UntagRole", grantable),
    ]:
        may("tags a role", cloudformation, does, application, *misses, context={"aws:TagKeys": ["team"]})
    may(
        "makes its role",
        cloudformation,
        "iam:CreateRole iam:DeleteRole iam:GetRole iam:GetRolePolicy iam:ListAttachedRolePolicies iam:ListRolePolicies",
        application,
        but("one of ours", "identity", to=role(account, "pipeline")),
    )
    may(
        "lets it log",
        cloudformation,
        "iam:AttachRolePolicy iam:DetachRolePolicy",
        application,
        but(
            "makes it an administrator",
            "identity",
            context={"iam:PolicyARN": "arn:aws:iam::aws:policy/AdministratorAccess"},
        ),
        but("one of ours", "identity", to=role(account, "pipeline")),
        context=basic,
    )
    may(
        "gives it to the function",
        cloudformation,
        "iam:PassRole",
        application,
        but("to another service", "identity", context={"iam:PassedToService": "ec2.amazonaws.com"}),
        but("one of ours", "identity", to=role(account, "pipeline")),
        context={"iam:PassedToService": "lambda.amazonaws.com"},
    )
    never(
        "doesn't change our own stack",
        cloudformation,
        "cloudformation:CreateChangeSet",
        arn("cloudformation", account, "stack/sekisho/1"),
    )
    never(
        "doesn't write its own rights",
        cloudformation,
        "iam:PutRolePolicy iam:UpdateAssumeRolePolicy iam:PutRolePermissionsBoundary",
        application,
    )

    # artifact-checker
    may(
        "looks at the bucket",
        checker,
        "s3:GetEncryptionConfiguration s3:ListBucket s3:ListBucketVersions",
        artifacts,
        but("another one", "identity", to="arn:aws:s3:::somebodys-bucket"),
        plain,
        context=tls,
    )
    may(
        "looks at an artifact and mends it",
        checker,
        "s3:AbortMultipartUpload s3:GetObjectLegalHold s3:GetObjectRetention s3:GetObjectTagging s3:GetObjectVersionTagging s3:PutObjectTagging s3:UpdateObjectEncryption",
        artifacts + "/shop/one.zip",
        elsewhere,
        plain,
        context=tls,
    )
    never(
        "doesn't delete artifacts",
        checker,
        "s3:DeleteObject s3:DeleteObjectVersion s3:PutObjectAcl",
        artifacts + "/shop/one.zip",
        context=tls,
    )
    may(
        "reads under the wrong key",
        checker,
        "kms:Decrypt kms:ReEncryptFrom",
        other_key,
        but("not through S3", "identity", context={"kms:ViaService": None}),
        but("of another account that lets everybody in", "identity", to=arn("kms", STRANGER, "key/one")),
        context=VIA_S3,
        anywhere=["name", "else there"],
    )
    may("looks at a key", checker, "kms:DescribeKey", key, anywhere=["name"])
    may("looks for pipelines", checker, "codepipeline:ListPipelines", None)
    may(
        "looks at pipelines",
        checker,
        "codepipeline:GetPipeline codepipeline:ListActionExecutions",
        shop,
        anywhere=["name"],
    )
    may(
        "goes on with a sweep",
        checker,
        "lambda:InvokeFunction",
        arn("lambda", account, "function:sekisho-artifact-checker"),
        but("by another function", "identity", to=arn("lambda", account, "function:temp-access")),
    )
may(
    "reads as the consumer",
    role(P, "artifact-checker"),
    "sts:AssumeRole",
    f"arn:aws:iam::{P}:role/consumer",
    but("as anybody else", "identity", to=f"arn:aws:iam::{P}:role/admin"),
    anywhere=["else there"],
)
never(
    "reads as nobody else where no consumer is named",
    role(T, "artifact-checker"),
    "sts:AssumeRole",
    f"arn:aws:iam::{T}:role/consumer",
)

# ---- Access: temp-access, chat, and who is let in ------------------------------------------------------------------------

USERS = {account: f"arn:aws:iam::{account}:user/prd-user" for account in (P, ALL)}
for account, user in USERS.items():
    access, boundary = role(account, "temp-access"), f"arn:aws:iam::{account}:policy/sekisho-access-boundary"
    grantable = {"aws:ResourceTag/sekisho:access": "grantable", "iam:PermissionsBoundary": boundary}
    for kind, principal in (("User", user), ("Role", f"arn:aws:iam::{account}:role/support")):
        may(
            "looks at a principal",
            access,
            f"iam:Get{kind} iam:Get{kind}Policy iam:List{kind}Policies",
            principal,
            anywhere=["name"],
        )
        may(
            "lets in and out",
            access,
            f"iam:Put{kind}Policy iam:Delete{kind}Policy",
            principal,
            but("who has no tag", "identity", context={"aws:ResourceTag/sekisho:access": None}),
            but("whose tag says otherwise", "identity", context={"aws:ResourceTag/sekisho:access": "no"}),
            but("who has no boundary", "identity", context={"iam:PermissionsBoundary": None}),
            but(
                "who has another boundary",
                "identity",
                context={"iam:PermissionsBoundary": f"arn:aws:iam::{account}:policy/other"},
            ),
            context=grantable,
            anywhere=["name"],
        )
        never(
            "doesn't make anybody grantable",
            access,
            f"iam:Tag{kind} iam:Put{kind}PermissionsBoundary iam:Delete{kind}PermissionsBoundary iam:Attach{kind}Policy",
            principal,
            context={},
        )
    may("looks for grants", access, "iam:GetAccountAuthorizationDetails", None)

for account in (P, O):
    channel = f"arn:aws:chatbot::{account}:chat-configuration/slack-channel/sekisho-{account}-{REGION}"
    may(
        "is taken by Chatbot",
        "chatbot.amazonaws.com",
        "sts:AssumeRole",
        role(account, "chat"),
        but("for another channel", "resource", context={"aws:SourceArn": channel.replace("sekisho-", "orders-")}),
        but("for another account", "resource", context={"aws:SourceAccount": STRANGER}),
        but("by another service", "resource", who="ec2.amazonaws.com"),
        but("by a stranger", "resource", who=f"arn:aws:iam::{STRANGER}:role/anybody"),
        context={"aws:SourceArn": channel, "aws:SourceAccount": account},
    )
CHAT = role(P, "chat")
may(
    "asks in chat",
    CHAT,
    "lambda:InvokeFunction",
    arn("lambda", P, "function:temp-access"),
    but("for another function", "identity", to=arn("lambda", P, "function:shop-api")),
)
never("does nothing else in chat", CHAT, "lambda:UpdateFunctionCode iam:GetUser s3:ListAllMyBuckets")

NOW = {"aws:CurrentTime": "2026-11-21T12:00:00Z"}  # inside the window of the grant in test_requests.py
for account, user in USERS.items():
    may(
        "works inside the window",
        user,
        (
            "athena:StartQueryExecution batch:DescribeJobs cloudwatch:PutMetricAlarm codecommit:GetFile dynamodb:PutItem ec2:StopInstances glue:GetTable "
            "kinesis:PutRecord lakeformation:GetDataAccess lambda:InvokeFunction logs:FilterLogEvents rds:RebootDBInstance s3:GetObject s3:PutObject "
            "sns:Publish sqs:SendMessage ssm:StartSession"
        ),
        None,
        but("before it", "identity", context={"aws:CurrentTime": "2026-11-21T08:00:00Z"}),
        but("after it", "identity", context={"aws:CurrentTime": "2026-11-21T16:00:00Z"}),
        context=NOW,
    )
    never(
        "tries to stay: as somebody",
        user,
        why="Identities",
        context=NOW,
        does=(
            "account:PutAlternateContact iam:AddUserToGroup iam:AttachUserPolicy iam:ChangePassword iam:CreateAccessKey iam:CreateLoginProfile iam:CreateUser "
            "iam:DeleteUserPermissionsBoundary iam:DeleteUserPolicy iam:EnableMFADevice iam:PassRole iam:PutUserPolicy iam:PutUserPermissionsBoundary "
            "iam:RemoveRoleFromInstanceProfile iam:SetDefaultPolicyVersion iam:TagUser iam:UntagUser iam:UpdateAssumeRolePolicy iam:UpdateLoginProfile "
            "identitystore:CreateUser organizations:LeaveOrganization ram:CreateResourceShare rolesanywhere:CreateTrustAnchor sso:CreateAccountAssignment "
            "sso-directory:CreateUser sts:AssumeRoot sts:GetFederationToken"
        ),
    )
    never(
        "tries to stay: by code under another role",
        user,
        why="CodeUnderOtherRoles",
        context=NOW,
        does=(
            "apprunner:StartDeployment appstream:CreateStreamingURL athena:CreatePresignedNotebookUrl athena:StartCalculationExecution athena:StartSession "
            "codecommit:DeleteFile elasticmapreduce:CreateStudioPresignedUrl elasticmapreduce:GetOnClusterAppUIPresignedURL elasticmapreduce:StartNotebookExecution "
            "elasticmapreduce:StartSession events:PutResourcePolicy greengrass:CreateDeployment imagebuilder:PutImagePolicy sagemaker:StartNotebookInstance "
            "sagemaker:StartSession "
            "amplify:CreateDeployment amplify:StartJob amplify:UpdateApp apprunner:CreateService apprunner:UpdateService appsync:CreateApiKey appsync:UpdateResolver autoscaling:CreateLaunchConfiguration "
            "batch:RegisterJobDefinition batch:SubmitJob chatbot:CreateSlackChannelConfiguration chatbot:UpdateSlackChannelConfiguration cloud9:CreateEnvironmentEC2 "
            "cloud9:UpdateEnvironment cloudformation:ActivateType cloudformation:CreateChangeSet cloudformation:CreateStack cloudformation:ExecuteChangeSet "
            "cloudformation:ImportStacksToStackSet cloudformation:RegisterType cloudformation:SetStackPolicy cloudformation:UpdateStack codebuild:CreateWebhook "
            "codebuild:UpdateWebhook codebuild:DeleteWebhook codebuild:CreateProject codebuild:PutResourcePolicy codebuild:RetryBuild codebuild:StartBuild codebuild:UpdateProject "
            "codecommit:CreateCommit codecommit:GitPush codecommit:MergePullRequestByFastForward codecommit:PutFile "
            "config:PutRemediationConfigurations config:StartRemediationExecution "
            "codedeploy:CreateDeployment codedeploy:UpdateDeploymentGroup codepipeline:CreatePipeline codepipeline:EnableStageTransition codepipeline:OverrideStageCondition "
            "codepipeline:PutApprovalResult codepipeline:RetryStageExecution codepipeline:StartPipelineExecution codepipeline:UpdatePipeline datapipeline:ActivatePipeline "
            "datapipeline:CreatePipeline datapipeline:PutPipelineDefinition ec2:AssociateIamInstanceProfile ec2:CreateLaunchTemplateVersion ec2:ModifyInstanceAttribute "
            "ecr:PutImage emr-containers:StartJobRun ec2:ModifyLaunchTemplate ec2:ReplaceIamInstanceProfileAssociation ecs:RegisterTaskDefinition ecs:RunTask ecs:StartTask elasticbeanstalk:CreateApplicationVersion "
            "airflow:CreateCliToken airflow:UpdateEnvironment chatbot:AssociateToConfiguration chatbot:RedeemSlackOauthCode ec2:CreateReplaceRootVolumeTask "
            "kinesisanalytics:CreateApplication kinesisanalytics:UpdateApplication lightsail:CreateInstances ssm:CreateMaintenanceWindow "
            "ssm:RegisterTaskWithMaintenanceWindow ssm:UpdateMaintenanceWindowTask "
            "elasticbeanstalk:UpdateEnvironment elasticmapreduce:AddJobFlowSteps events:PutRule events:PutTargets glue:CreateJob glue:RunStatement glue:StartJobRun "
            "glue:UpdateJob imagebuilder:CreateImage imagebuilder:StartImagePipelineExecution imagebuilder:UpdateImagePipeline lambda:AddPermission lambda:CreateFunction "
            "lambda:PublishLayerVersion lambda:PutFunctionConcurrency lambda:UpdateFunctionCode lambda:UpdateFunctionConfiguration pipes:CreatePipe pipes:UpdatePipe "
            "sagemaker:CreatePresignedNotebookInstanceUrl sagemaker:UpdateNotebookInstance scheduler:CreateSchedule scheduler:UpdateSchedule ssm:CreateActivation "
            "ssm:CreateAssociation ssm:CreateDocument ssm:StartAutomationExecution ssm:StartChangeRequestExecution ssm:UpdateAssociation ssm:UpdateDocument "
            "servicecatalog:CreateProduct servicecatalog:ExecuteProvisionedProductServiceAction servicecatalog:ProvisionProduct servicecatalog:UpdateProvisionedProduct "
            "synthetics:CreateCanary synthetics:StartCanary synthetics:UpdateCanary states:CreateStateMachine states:PublishStateMachineVersion states:UpdateStateMachine"
        ),
    )
    never(
        "tries to come back: by a door from outside",
        user,
        why="DoorsFromOutside",
        context=NOW,
        does=(
            "apigateway:UpdateDomainNamePolicy backup:PutBackupVaultSharingPolicy cognito-identity:GetOpenIdTokenForDeveloperIdentity "
            "datazone:GetEnvironmentCredentials deadline:AssumeQueueRoleForUser elasticmapreduce:GetClusterSessionCredentials "
            "emr-containers:GetManagedEndpointSessionCredentials gamelift:GetComputeAccess lakeformation:GetTemporaryGlueTableCredentials quicksight:RegisterUser "
            "s3express:PutAccessPointPolicy s3files:PutFileSystemPolicy s3vectors:PutVectorBucketPolicy sso-oauth:CreateTokenWithIAM sts:GetWebIdentityToken "
            "codeartifact:PutDomainPermissionsPolicy eks:AssociateIdentityProviderConfig glacier:SetVaultAccessPolicy grafana:CreateWorkspaceApiKey "
            "grafana:UpdatePermissions iot:AttachPolicy iot:CreateCertificateFromCsr iot:CreateKeysAndCertificate iot:CreatePolicyVersion iot:RegisterCertificate "
            "kafka:PutClusterPolicy lightsail:SetResourceAccessForBucket redshift-serverless:PutResourcePolicy redshift:PutResourcePolicy "
            "s3-object-lambda:PutObjectAcl s3-outposts:PutBucketPolicy s3:PutAccessPointConfigurationForObjectLambda s3express:PutBucketPolicy s3tables:PutTableBucketPolicy "
            "sagemaker:PutModelPackageGroupPolicy vpc-lattice:PutResourcePolicy "
            "acm-pca:IssueCertificate acm-pca:PutPolicy aoss:CreateAccessPolicy cognito-identity:CreateIdentityPool cognito-identity:SetIdentityPoolRoles "
            "cognito-identity:UpdateIdentityPool eks:AssociateAccessPolicy eks:CreateAccessEntry eks:UpdateAccessEntry es:AuthorizeVpcEndpointAccess es:UpdateDomainConfig "
            "events:PutPermission transfer:CreateUser transfer:ImportSshPublicKey transfer:UpdateUser apigateway:UpdateRestApiPolicy backup:PutBackupVaultAccessPolicy dynamodb:PutResourcePolicy ec2:ModifyImageAttribute ec2:ModifySnapshotAttribute "
            "ec2:ModifyVpcEndpointServicePermissions ecr:PutRegistryPolicy ecr:SetRepositoryPolicy elasticfilesystem:PutFileSystemPolicy glue:PutResourcePolicy "
            "kinesis:PutResourcePolicy kms:PutKeyPolicy kms:ReplicateKey lakeformation:GrantPermissions lakeformation:PutDataLakeSettings logs:PutResourcePolicy "
            "rds:ModifyDBSnapshotAttribute redshift:AuthorizeDataShare s3:PutReplicationConfiguration s3:CreateAccessPoint s3:PutBucketAcl s3:PutBucketPublicAccessBlock "
            "s3:PutBucketOwnershipControls s3:PutBucketPolicy secretsmanager:PutResourcePolicy ses:CreateEmailIdentityPolicy ses:PutIdentityPolicy "
            "ses:UpdateEmailIdentityPolicy sns:AddPermission sns:SetTopicAttributes sqs:AddPermission sqs:SetQueueAttributes ssm:ModifyDocumentPermission ssm:PutResourcePolicy"
        ),
    )
    may(
        "lets AWS use a key for a volume",
        user,
        "kms:CreateGrant",
        arn("kms", account, "key/volumes"),
        but("grants it to somebody", "GrantsOfKeys", context={"kms:GrantIsForAWSResource": "false"}),
        but("grants it without saying", "GrantsOfKeys", context={"kms:GrantIsForAWSResource": None}),
        context=NOW | {"kms:GrantIsForAWSResource": "true"},
    )
    never(
        "covers the tracks",
        user,
        "chatbot:DeleteSlackChannelConfiguration cloudtrail:DeleteTrail cloudtrail:PutEventSelectors cloudtrail:StopLogging cloudtrail:UpdateTrail cloudwatch:PutAlarmMuteRule",
        why="Traces",
        context=NOW,
    )
    for action, resource in [
        ("cloudformation:DeleteStack", arn("cloudformation", account, "stack/sekisho/1")),
        ("cloudwatch:DeleteAlarms", arn("cloudwatch", account, "alarm:sekisho-temp-access-errors")),
        ("cloudwatch:DeleteDashboards", f"arn:aws:cloudwatch::{account}:dashboard/sekisho-{REGION}"),
        ("dynamodb:PutItem", arn("dynamodb", account, "table/sekisho-ledger")),
        ("events:DeleteEventBus", arn("events", account, "event-bus/sekisho")),
        ("events:DisableRule", arn("events", account, "rule/sekisho-access-sweep")),
        ("iam:GetPolicy", f"arn:aws:iam::{account}:policy/sekisho-access-boundary"),
        ("iam:GetRole", role(account, "temp-access")),
        ("lambda:InvokeFunction", arn("lambda", account, "function:sekisho-pipeline-starter")),
        ("lambda:InvokeFunction", arn("lambda", account, "function:temp-access")),
        ("lambda:DeleteLayerVersion", arn("lambda", account, "layer:sekisho-config:1")),
        ("logs:DeleteLogGroup", arn("logs", account, "log-group:/aws/lambda/sekisho-pipeline-starter")),
        ("logs:DeleteLogGroup", arn("logs", account, "log-group:/aws/lambda/temp-access")),
        ("s3:PutObject", "arn:aws:s3:::aws-sam-cli-managed-default-samclisourcebucket-1a2b3c/one.zip"),
        ("s3:DeleteObject", bucket(account) + "/shop/one.zip"),
        ("sns:DeleteTopic", arn("sns", account, "sekisho-notices")),
        ("sqs:PurgeQueue", arn("sqs", account, "sekisho-pipeline-starter-dead-letters")),
        ("kms:ScheduleKeyDeletion", KEY[account]),
    ]:
        never("turns on the checkpoint itself", user, action, resource, why="ThisStack", context=NOW)
may(
    "takes a role that is listed",
    USERS[P],
    "sts:AssumeRole",
    f"arn:aws:iam::{STRANGER}:role/support",
    but("any other", "OtherRoles", to=f"arn:aws:iam::{P}:role/admin"),
    context=NOW,
)
never(
    "takes no role where none is listed",
    USERS[ALL],
    "sts:AssumeRole",
    f"arn:aws:iam::{STRANGER}:role/support",
    "OtherRoles",
    NOW,
)
