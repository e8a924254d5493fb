"""Requests for images: who reads and pulls them, from inside and outside the organizational units that share them."""

from tests.iam.requests import ALL, STRANGER, UNIT_ACCOUNT, WAYS, P, R, T, arn, but, may, never, role
from tests.template.deployed import ORG_UNIT, OTHER_UNIT

SHOP = arn("ecr", R, "repository/shop")
PULL = "ecr:BatchCheckLayerAvailability ecr:BatchGetImage ecr:GetDownloadUrlForLayer"
WRITE = (
    "ecr:BatchDeleteImage ecr:CompleteLayerUpload ecr:InitiateLayerUpload ecr:PutImage ecr:UploadLayerPart "
    "ecr:PutImageTagMutability ecr:PutLifecyclePolicy ecr:SetRepositoryPolicy ecr:DeleteRepository ecr:TagResource"
)
# The organization and the root of the units in the policy.
ORGANIZATION, ROOT = ORG_UNIT.split("/")[:2]
(_, _, OTHER_ID, _) = OTHER_UNIT.split("/")
# Paths of accounts that may pull. The policy names the second unit without its root.
INSIDE = {
    "in the unit": ORG_UNIT,
    "in a unit below": f"{ORG_UNIT}ou-ab12-22222222/",
    "in the other unit": f"{ORGANIZATION}/{ROOT}/{OTHER_ID}/",
    "in the other unit, below another one": f"{ORGANIZATION}/{ROOT}/ou-ab12-44444444/{OTHER_ID}/ou-ab12-55555555/",
}
OUTSIDE = {
    "in another unit": f"{ORGANIZATION}/{ROOT}/ou-ab12-99999999/",
    "in a unit whose id begins the same": f"{ORG_UNIT.rstrip('/')}2/",
    "in the unit above": f"{ORGANIZATION}/{ROOT}/",
    "in another organization": f"o-zzzzzzzzzz/{ORG_UNIT.partition('/')[2]}",
    "in another organization, in the other unit": f"o-zzzzzzzzzz/{ROOT}/{OTHER_ID}/",
    "in no organization": None,
}


def outside(key):
    """Returns misses: the same request from outside the units that share the repository."""
    return [but(what, "resource", context={key: path and [path]}) for what, path in OUTSIDE.items()]


# Whoever pulls in accounts of the units. Nobody has done anything for the second account, which is new.
TASK, TASK_OF_NEW = (f"arn:aws:iam::{account}:role/task" for account in ("777777777777", "888888888888"))
FOR_FUNCTION = "ecr:BatchGetImage ecr:GetDownloadUrlForLayer"
for what, path in INSIDE.items():
    may(f"pulls an image, {what}", TASK_OF_NEW, PULL, SHOP, context={"aws:PrincipalOrgPaths": [path]})
    may(
        f"pulls an image for a function, {what}",
        "lambda.amazonaws.com",
        FOR_FUNCTION,
        SHOP,
        context={"aws:SourceOrgPaths": [path]},
    )
may(
    "pulls an image and reads what there is",
    TASK,
    f"{PULL} ecr:DescribeImages ecr:DescribeRepositories",
    SHOP,
    *outside("aws:PrincipalOrgPaths"),
    context={"aws:PrincipalOrgPaths": [ORG_UNIT]},
)
never("does not write", TASK, WRITE, SHOP, why="resource", context={"aws:PrincipalOrgPaths": [ORG_UNIT]})
may(
    "pulls an image for a function",
    "lambda.amazonaws.com",
    FOR_FUNCTION,
    SHOP,
    *outside("aws:SourceOrgPaths"),
    but("as another service", "resource", who="ecs-tasks.amazonaws.com"),
    but("as a role, and no service", "resource", who=TASK),
    context={"aws:SourceOrgPaths": [ORG_UNIT]},
)
may(
    "pulls an image for a function of the repository's own account",
    "lambda.amazonaws.com",
    FOR_FUNCTION,
    SHOP,
    but("of another account", "resource", context={"aws:SourceArn": arn("lambda", T, "function:shop-hello")}),
    but("without a source", "resource", context={"aws:SourceArn": None}),
    but("as another service", "resource", who="ecs-tasks.amazonaws.com"),
    but("as a role, and no service", "resource", who=TASK),
    context={"aws:SourceArn": arn("lambda", R, "function:shop-hello")},
)
# These roles are in the unit, and the policy of the repository admits them. They have no permission of their own.
for who in (role(T, "pipeline-starter"), role(P, "pipeline-starter"), role(T, "pipeline"), role(P, "pipeline")):
    never(
        "pulls nothing without a permission of its own",
        who,
        f"{PULL} ecr:DescribeImages",
        SHOP,
        context={"aws:PrincipalOrgPaths": [ORG_UNIT]},
    )
    never("cannot log in to a registry", who, "ecr:GetAuthorizationToken")

# In the repository account: event-relay and the source action read which image has a tag.
for account in (R, ALL, UNIT_ACCOUNT):
    relay, source, shop = (
        role(account, "event-relay"),
        role(account, "source-action"),
        arn("ecr", account, "repository/shop"),
    )
    pipelines = but("of a pipeline account", "identity", to=arn("ecr", P, "repository/shop"))
    may("reads images", relay, "ecr:DescribeImages ecr:DescribeRepositories", shop, pipelines, anywhere=["name"])
    may(
        "reads the digest of an image",
        source,
        "ecr:DescribeImages",
        shop,
        pipelines,
        but("to list repositories", "identity", does="ecr:DescribeRepositories"),
        anywhere=["name"],
    )
    may("looks for caches of other registries", relay, "ecr:DescribePullThroughCacheRules", None)
    never("changes no registry", relay, "ecr:CreatePullThroughCacheRule ecr:PutRegistryPolicy")
    # Even if this account is in the unit, too, its roles need a permission of their own.
    for who in (relay, source):
        never(
            "neither pulls nor writes an image",
            who,
            f"{PULL} {WRITE}",
            shop,
            context={"aws:PrincipalOrgPaths": [ORG_UNIT]},
        )

# In the pipeline account: CloudFormation creates functions from the managed pipeline's image.
may(
    "pulls the image of the managed pipeline",
    role(P, "cloudformation"),
    "ecr:BatchGetImage ecr:GetDownloadUrlForLayer",
    SHOP,
    *outside("aws:PrincipalOrgPaths"),
    but("of another repository", "identity", to=arn("ecr", R, "repository/shop/cart")),
    but("of this account", "identity", to=arn("ecr", P, "repository/shop")),
    but("to read what there is", "identity", does="ecr:DescribeImages"),
    context={"aws:PrincipalOrgPaths": [ORG_UNIT]},
)
for account, repositories, _ in WAYS:
    if account != P:
        never(
            "pulls nothing without an image of the managed pipeline",
            role(account, "cloudformation"),
            f"{PULL} ecr:DescribeImages",
            arn("ecr", repositories, "repository/shop"),
            context={"aws:PrincipalOrgPaths": [ORG_UNIT]},
        )
never(
    "reads no image of a stranger",
    role(R, "event-relay"),
    "ecr:DescribeImages",
    arn("ecr", STRANGER, "repository/shop"),
)
