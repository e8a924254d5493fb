"""Requests between repository account and pipeline account: the buses, the source action, its artifact and its key."""

from tests.iam.requests import (
    ALL,
    ELSEWHERE,
    KEY,
    SSE,
    SSE_KEY,
    STRANGER,
    UNIT_ACCOUNT,
    VIA_S3,
    WAYS,
    R,
    T,
    arn,
    bucket,
    but,
    may,
    never,
    not_through_s3,
    role,
    wrong_headers,
)
from tools.layout import REGION

# From the repository account to the pipeline account: the bus

CHANGE = {"events:source": "sekisho.relay", "events:detail-type": "Source Change"}
for account in (R, ALL, UNIT_ACCOUNT):
    relay, shop = role(account, "event-relay"), arn("codecommit", account, "shop")
    may(
        "reads a repository",
        relay,
        "codecommit:GetBranch codecommit:GetDifferences codecommit:GetFolder codecommit:GetRepository "
        "codecommit:ListBranches",
        shop,
        anywhere=["name"],
    )
    never("does not read files", relay, "codecommit:GetFile codecommit:GetBlob codecommit:GitPull", shop)
    may("lists repositories", relay, "codecommit:ListRepositories", None)
    never(
        "does not write to a repository",
        relay,
        "codecommit:GitPush codecommit:CreateCommit codecommit:DeleteBranch",
        shop,
    )
for account, repositories, region in WAYS:
    relay = role(repositories, "event-relay", region)
    # Within one account, the permission of the identity is enough, and the bus's policy is not needed.
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
                    "on a stranger's bus that admits everybody",
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
# For a repository account with PipelineOrgPath: a pipeline account, the path of its unit, and the path of another unit.
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
    role(UNIT_ACCOUNT, "event-relay"),
    "events:PutEvents",
    arn("events", MEMBER, "event-bus/sekisho"),
    *outside("identity", "aws:ResourceOrgPaths"),
    context=CHANGE | IN_UNIT,
    anywhere=["account", "region", "else there"],
)

# From the pipeline account to the repository account: reports

REPORT = {"events:source": "sekisho.starter", "events:detail-type": "Order Report"}


def other_events(why):
    return [
        but(f"as a source change ({why})", why, context=CHANGE),
        but(f"with another source ({why})", why, context={"events:source": "sekisho.relay"}),
        but(f"as another kind of event ({why})", why, context={"events:detail-type": "Deploy"}),
        but(f"without a source ({why})", why, context={"events:source": None}),
        but(f"without a kind ({why})", why, context={"events:detail-type": None}),
    ]


for account, repositories, region in WAYS:
    starter = role(account, "pipeline-starter")
    across, deployed_here = account != repositories, region == REGION
    may(
        "reports on an order",
        starter,
        "events:PutEvents",
        arn("events", repositories, "event-bus/sekisho", region),
        but("on the default bus", "identity", to=arn("events", repositories, "event-bus/default", region)),
        *other_events("identity"),
        *(
            [
                *other_events("resource"),
                but("by another role of that account", "resource", who=f"arn:aws:iam::{account}:role/admin"),
                but("by the role of the pipelines", "resource", who=role(account, "pipeline")),
            ]
            if across and deployed_here
            else []
        ),
        *(
            [but("by a stranger's role of the same name", "resource", who=role(STRANGER, "pipeline-starter"))]
            if deployed_here
            else []
        ),
        context=REPORT,
        # The permission holds in any region, because the repository account may have repositories in several regions.
        anywhere=["region"] if deployed_here else ["region", "else there"],
    )
    if across:
        never(
            "does not relay a change to its own bus",
            starter,
            "events:PutEvents",
            arn("events", account, "event-bus/sekisho"),
            context=CHANGE,
        )
may(
    "reports from the organizational unit",
    role(MEMBER, "pipeline-starter"),
    "events:PutEvents",
    arn("events", UNIT_ACCOUNT, "event-bus/sekisho"),
    *outside("resource", "aws:PrincipalOrgPaths"),
    *other_events("resource"),
    but("by another role of that account", "resource", who=f"arn:aws:iam::{MEMBER}:role/admin"),
    but("by the role of the pipelines", "resource", who=role(MEMBER, "pipeline")),
    but(
        "to delete the bus",
        "resource",
        does="events:DeleteEventBus",
        context={"events:source": None, "events:detail-type": None},
    ),
    context=REPORT | {"aws:PrincipalOrgPaths": [UNIT]},
)

# From the pipeline account to the repository account: the source action, its artifact and the key

for account, repositories, region in WAYS:
    pipeline, source, across = (
        role(account, "pipeline"),
        role(repositories, "source-action", region),
        account != repositories,
    )
    # A source role that no stack here deploys has an administrator's permissions, so only bucket and key limit it.
    deployed_here = region == REGION
    may(
        "assumes the source action's role",
        pipeline,
        "sts:AssumeRole",
        source,
        but("a stranger's role", "identity", to=role(STRANGER, "source-action")),
        but("another role of the repository account", "identity", to=f"arn:aws:iam::{repositories}:role/admin"),
        but(
            "the role of another region",
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
    owned = {"aws:SecureTransport": "true", "aws:ResourceAccount": account}
    encrypted = owned | {SSE: "aws:kms", SSE_KEY: KEY[account]}
    # Anybody may create a bucket whose name matches the pattern in the role's policy.
    foreign = but("into a stranger's bucket of that name", "identity", context={"aws:ResourceAccount": STRANGER})
    may(
        "puts the source",
        source,
        "s3:PutObject",
        object_,
        *(
            [
                but(
                    "into a stranger's bucket that admits everybody",
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
        *(wrong_headers(arn("kms", R, "key/other")) if account != T else []),
        *([foreign] if deployed_here else []),
        context=encrypted,
        anywhere=[] if deployed_here else ["name", "else"],
    )
    may(
        "puts a part of the source",
        source,
        "s3:PutObject",
        object_,
        context=owned,
        anywhere=[] if deployed_here else ["name", "else"],
    )
    may(
        "gives the source to the bucket's account",
        source,
        "s3:PutObjectAcl",
        object_,
        *(
            [but("as another role of that account", "resource", who=f"arn:aws:iam::{repositories}:role/admin")]
            if across
            else []
        ),
        *([foreign] if deployed_here else []),
        context=owned,
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
            "does not read artifacts",
            source,
            "s3:GetObject s3:DeleteObject",
            object_,
            context={"aws:SecureTransport": "true"},
        )
        never(
            "does nothing else with the key",
            source,
            "kms:Encrypt kms:CreateGrant kms:DescribeKey",
            KEY[account],
            context={},
        )
for account in (R, ALL, UNIT_ACCOUNT):
    source, shop = role(account, "source-action"), arn("codecommit", account, "shop")
    may(
        "reads the source",
        source,
        (
            "codecommit:CancelUploadArchive codecommit:GetBranch codecommit:GetCommit "
            "codecommit:GetUploadArchiveStatus "
            "codecommit:UploadArchive"
        ),
        shop,
        anywhere=["name"],
    )
    never(
        "does not write to a repository", source, "codecommit:GitPush codecommit:GitPull codecommit:DeleteBranch", shop
    )
SOURCE, OBJECT = (
    role(UNIT_ACCOUNT, "source-action"),
    f"arn:aws:s3:::sekisho-artifacts-{MEMBER}-{REGION}/shop/Source/abc.zip",
)
may(
    "is assumed from the organizational unit",
    role(MEMBER, "pipeline"),
    "sts:AssumeRole",
    SOURCE,
    *outside("resource", "aws:PrincipalOrgPaths"),
    but("as pipeline-starter", "resource", who=role(MEMBER, "pipeline-starter")),
    but("to set session tags", "resource", does="sts:TagSession"),
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
    "encrypts the source in the organizational unit",
    SOURCE,
    "kms:GenerateDataKey kms:Decrypt",
    arn("kms", MEMBER, "key/artifacts"),
    *outside("identity", "aws:ResourceOrgPaths"),
    but("not through S3", "identity", context={"kms:ViaService": None}),
    context=VIA_S3 | IN_UNIT,
    anywhere=["account", "region", "name", "else there"],
)
