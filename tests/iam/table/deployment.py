"""The calls of the role for deployment: for CloudFormation's handlers of the template, for sam, and for operations.

The schemas in cfn-lint list the calls of the handlers. `tests/template/handlers.py` reads the schemas, and names the
calls that are left out because the template does not use them.
"""

from tests.iam.requests import ALL, STRANGER, P, T, arn, bucket, but, may, never, role
from tests.template import handlers
from tools.layout import REGION

# For each account, the role whose permissions CloudFormation uses, and the role that the deployers assume. In T,
# CloudFormation has its own service role.
DEPLOYED_BY = {P: (role(P, "deploy"), role(P, "deploy")), T: (role(T, "service"), role(T, "deploy"))}
KINDS = handlers.kinds()
# `may` leaves out these nearby requests for a statement that applies to any resource, because they are allowed.
NOT_ELSE = ("account", "region", "name")
CHANNELS = "chatbot:DescribeSlackChannelConfigurations chatbot:DescribeSlackWorkspaces"


def called(service, *kinds, but_not=""):
    """Returns the calls of CloudFormation to a service for these kinds of resources; without kinds, for all of them."""
    found = {action for kind in kinds or KINDS for action in handlers.calls(kind) if action.startswith(f"{service}:")}
    return " ".join(sorted(found - set(but_not.split())))


# A role of Identity Center. Its path contains Identity Center's region, except if the region is us-east-1.
SSO, HASH = "role/aws-reserved/sso.amazonaws.com", "AWSReservedSSO_Deploy_0123456789abcdef"

for account, (DEPLOY, CALLER) in DEPLOYED_BY.items():
    for who in ("role/ci", "user/ops-1", f"{SSO}/eu-west-1/{HASH}", f"{SSO}/{HASH}"):
        may(
            "is assumed by the named principals",
            f"arn:aws:iam::{ALL}:{who}",
            "sts:AssumeRole",
            CALLER,
            but("somebody else of that account", "resource", who=f"arn:aws:iam::{ALL}:role/developer"),
            but("somebody of another account", "resource", who=f"arn:aws:iam::{STRANGER}:{who}"),
            but("a role with a name of Identity Center", "resource", who=f"arn:aws:iam::{ALL}:role/{HASH}"),
            but("to set session tags", "resource", does="sts:TagSession"),
        )

    # Calls of sam, and calls for the stack

    SAM = "arn:aws:s3:::aws-sam-cli-managed-default-samclisourcebucket-1a2b3c"
    HERE = {"aws:ResourceAccount": account}
    foreign = but("in a stranger's bucket of that name", "identity", context={"aws:ResourceAccount": STRANGER})
    for stack in ("sekisho", "aws-sam-cli-managed-default"):
        may(
            "deploys a stack",
            CALLER,
            (
                "cloudformation:CreateChangeSet cloudformation:DeleteChangeSet cloudformation:DescribeChangeSet "
                "cloudformation:DescribeStackEvents cloudformation:DescribeStackResource "
                "cloudformation:DescribeStackResources cloudformation:DescribeStacks cloudformation:ExecuteChangeSet "
                "cloudformation:GetTemplate cloudformation:TagResource"
            ),
            arn("cloudformation", account, f"stack/{stack}/1"),
        )
    may(
        "protects the stack",
        CALLER,
        "cloudformation:UpdateTerminationProtection",
        arn("cloudformation", account, "stack/sekisho/1"),
        but("another stack", "identity", to=arn("cloudformation", account, "stack/aws-sam-cli-managed-default/1")),
    )
    own, guided, other = (
        arn("cloudformation", account, f"stack/{name}/1")
        for name in ("sekisho-deploy", "sekisho-1bf8e7aa-CompanionStack", "shop-1bf8e7aa-CompanionStack")
    )
    change = but("to change it", "identity", does="cloudformation:CreateChangeSet")
    of_another = but("that of another stack", "identity", to=other)
    may("reads the version of its template", CALLER, "cloudformation:DescribeStacks", own, change)
    may("looks in guided mode for sam's images", CALLER, "cloudformation:DescribeStacks", guided, change, of_another)
    may(
        "reads the region and the quotas of the account",
        CALLER,
        "account:GetRegionOptStatus lambda:GetAccountSettings servicequotas:ListServiceQuotas",
        None,
    )
    never("changes neither", CALLER, "account:DisableRegion servicequotas:RequestServiceQuotaIncrease", None)
    may("reads a template", CALLER, "cloudformation:GetTemplateSummary", None)
    may("puts a package", CALLER, "s3:PutObject", f"{SAM}/one.zip", foreign, context=HERE)
    for who in {DEPLOY, CALLER}:
        may("reads a package", who, "s3:GetObject s3:GetObjectVersion", f"{SAM}/one.zip", foreign, context=HERE)
    # AWS does not document whether the context has an account for a bucket that does not exist yet, so both are tested.
    for context in (HERE, {}):
        may("creates sam's bucket", CALLER, "s3:CreateBucket s3:TagResource", SAM, foreign, context=context)
    BUCKET = "AWS::S3::Bucket", "AWS::S3::BucketPolicy"
    OF_OBJECTS = "s3:GetObject s3:GetObjectVersion"
    # sam's bucket has no notifications and no lifecycle rules, and nobody deletes the bucket.
    may(
        "manages sam's bucket",
        CALLER,
        called(
            "s3",
            *BUCKET,
            but_not=(
                f"{OF_OBJECTS} s3:CreateBucket s3:DeleteBucket s3:DeleteBucketPolicy s3:PutBucketNotification "
                "s3:PutBucketOwnershipControls s3:PutLifecycleConfiguration s3:TagResource"
            ),
        )
        + " s3:GetBucketLocation",
        SAM,
        foreign,
        context=HERE,
    )
    may("manages the artifact bucket", DEPLOY, called("s3", *BUCKET, but_not=OF_OBJECTS), bucket(account))
    for who in {DEPLOY, CALLER}:
        never(
            "does not read or write artifacts",
            who,
            "s3:GetObject s3:PutObject",
            bucket(account) + "/shop/one.zip",
            context={"aws:SecureTransport": "true"},
        )

    # Identities

    ROLE, POLICIES = (
        role(account, "pipeline"),
        ("sekisho-access-boundary", f"sekisho-chat-{REGION}", "sekisho-window-2"),
    )
    OF_POLICIES = called("iam", "AWS::IAM::ManagedPolicy")
    PASSED = {"iam:PassedToService": "lambda.amazonaws.com"}
    own_role = but("its own role", "NotItself", to=DEPLOY)
    deployers_role = but("the role of the deployers", "NotItself", to=CALLER)
    service_role = but("the service role", "NotItself", to=role(account, "service"))
    workstation = but("the role of the instances that deploy", "NotItself", to=role(account, "workstation"))
    may(
        "manages a role",
        DEPLOY,
        called("iam", "AWS::IAM::Role"),
        ROLE,
        own_role,
        deployers_role,
        service_role,
        workstation,
    )
    for service in ("chatbot", "codebuild", "codepipeline", "lambda"):
        may(
            "passes a role",
            DEPLOY,
            "iam:PassRole",
            ROLE,
            but("to another service", "identity", context={"iam:PassedToService": "ec2.amazonaws.com"}),
            own_role,
            context={"iam:PassedToService": f"{service}.amazonaws.com"},
        )
    for policy in POLICIES:
        may(
            "manages a policy",
            DEPLOY,
            f"{OF_POLICIES} iam:TagPolicy iam:UntagPolicy",
            f"arn:aws:iam::{account}:policy/{policy}",
            but(
                "a policy of its own role",
                "identity",
                to=f"arn:aws:iam::{account}:policy/sekisho-deploy-stack-{REGION}",
            ),
        )
    may(
        "creates Chatbot's service-linked role",
        DEPLOY,
        "iam:CreateServiceLinkedRole",
        f"arn:aws:iam::{account}:role/aws-service-role/management.chatbot.amazonaws.com/AWSServiceRoleForAWSChatbot",
        but("of another service", "identity", context={"iam:AWSServiceName": "lex.amazonaws.com"}),
        context={"iam:AWSServiceName": "management.chatbot.amazonaws.com"},
    )

    # Functions and the resources around them

    LAYER = "lambda:DeleteLayerVersion lambda:GetLayerVersion lambda:PublishLayerVersion"
    ASYNCHRONOUS = called("lambda", "AWS::Lambda::EventInvokeConfig")
    OF_FUNCTIONS = called("lambda", "AWS::Lambda::Alias", "AWS::Lambda::Function", "AWS::Lambda::Permission")
    for function in ("sekisho-pipeline-starter", "temp-access"):
        may(
            "manages a function and its alias",
            DEPLOY,
            f"{OF_FUNCTIONS} lambda:GetFunctionConfiguration lambda:ListTags".replace("lambda:GetLayerVersion ", ""),
            arn("lambda", account, f"function:{function}"),
        )
    for function in ("function:temp-access", "function:temp-access:$LATEST"):
        may("limits asynchronous invocations", DEPLOY, ASYNCHRONOUS, arn("lambda", account, function))
    may(
        "manages the config layer",
        DEPLOY,
        "lambda:PublishLayerVersion",
        arn("lambda", account, "layer:sekisho-config"),
        anywhere=["else"],
    )
    may(
        "manages the config layer",
        DEPLOY,
        "lambda:DeleteLayerVersion lambda:GetLayerVersion",
        arn("lambda", account, "layer:sekisho-config:1"),
    )
    may("manages the ledger", DEPLOY, called("dynamodb"), arn("dynamodb", account, "table/sekisho-ledger"))
    never(
        "does not use the ledger",
        DEPLOY,
        "dynamodb:GetItem dynamodb:PutItem dynamodb:DeleteItem",
        arn("dynamodb", account, "table/sekisho-ledger"),
    )
    PERMISSION = "events:PutPermission events:RemovePermission"
    may(
        "manages the bus",
        DEPLOY,
        called("events", "AWS::Events::EventBus", but_not=PERMISSION),
        arn("events", account, "event-bus/sekisho"),
        beyond="events:PutEvents",
    )
    may("manages the bus's policy", DEPLOY, PERMISSION, None)
    for rule in (
        "sekisho-access-sweep",
        "sekisho-access-follow-up",
        "sekisho-follow-up",
        "sekisho-alarm-state",
        "sekisho-image-change",
        "sekisho/sekisho-source-change",
        "sekisho/sekisho-order-report",
    ):
        may("manages a rule", DEPLOY, called("events", "AWS::Events::Rule"), arn("events", account, f"rule/{rule}"))
    may(
        "manages a queue",
        DEPLOY,
        called("sqs") + " sqs:GetQueueUrl",
        arn("sqs", account, "sekisho-pipeline-starter-dead-letters"),
    )
    # An earlier version had the topic sekisho-notices-chat, and the update from that version deletes it.
    for topic in ("sekisho-notices", "sekisho-notices-chat"):
        may("manages a topic", DEPLOY, called("sns"), arn("sns", account, topic))
    FIND = "logs:DescribeIndexPolicies logs:DescribeLogGroups logs:DescribeResourcePolicies"
    for group in ("/aws/lambda/sekisho-pipeline-starter", "/aws/lambda/temp-access", "/aws/codebuild/shop"):
        may("manages a log", DEPLOY, called("logs", but_not=FIND), arn("logs", account, f"log-group:{group}"))
    may("lists logs", DEPLOY, FIND, None)
    may(
        "manages an alarm",
        DEPLOY,
        called("cloudwatch", "AWS::CloudWatch::Alarm", but_not="cloudwatch:DescribeAlarms"),
        arn("cloudwatch", account, "alarm:sekisho-temp-access-errors"),
    )
    # If a call names no alarm exactly, CloudWatch requires permission for all alarms, not only for those of this stack.
    may(
        "finds alarms",
        DEPLOY,
        "cloudwatch:DescribeAlarms",
        arn("cloudwatch", account, "alarm:orders"),
        anywhere=NOT_ELSE,
    )
    may(
        "manages the dashboard",
        DEPLOY,
        called("cloudwatch", "AWS::CloudWatch::Dashboard"),
        f"arn:aws:cloudwatch::{account}:dashboard/sekisho-{REGION}",
    )

    # Key, pipeline, repository, chat

    MAKE_KEY = "kms:CreateKey kms:ListAliases"
    VIA = {"aws:CalledVia": ["cloudformation.amazonaws.com"]}
    SHOP, PROJECT, REPOSITORY = (
        arn("codepipeline", account, "shop"),
        arn("codebuild", account, "project/shop"),
        arn("codecommit", account, "shop"),
    )
    may("creates a key", DEPLOY, MAKE_KEY, None)
    KEEP_KEY = called("kms", "AWS::KMS::Key", "AWS::KMS::Alias", but_not=f"{MAKE_KEY} kms:ScheduleKeyDeletion")
    ALIAS = "kms:CreateAlias kms:DeleteAlias kms:UpdateAlias"
    # The policy on the key itself does not limit these calls.
    may("manages a key", DEPLOY, KEEP_KEY, arn("kms", account, "key/new"), anywhere=["name", "else there"])
    may("manages the alias of a key", DEPLOY, ALIAS, arn("kms", account, "alias/sekisho-artifacts"))
    may(
        "deletes a new key",
        DEPLOY,
        "kms:ScheduleKeyDeletion",
        arn("kms", account, "key/new"),
        but("not through CloudFormation", "identity", context={"aws:CalledVia": None}),
        context=VIA,
        anywhere=["name", "else there"],
    )
    never("does not use a key", DEPLOY, "kms:Decrypt kms:GenerateDataKey kms:Encrypt", arn("kms", account, "key/new"))
    may("manages a pipeline", DEPLOY, called("codepipeline"), SHOP, anywhere=["name"])
    may(
        "manages a build",
        DEPLOY,
        "codebuild:BatchGetProjects codebuild:CreateProject codebuild:DeleteProject codebuild:UpdateProject",
        PROJECT,
        anywhere=["name"],
    )
    may(
        "manages a repository",
        DEPLOY,
        "codecommit:CreateRepository codecommit:GetRepository codecommit:TagResource codecommit:UntagResource",
        REPOSITORY,
        anywhere=["name"],
    )
    IMAGES = arn("ecr", account, "repository/shop")
    may("manages a repository of images", DEPLOY, called("ecr"), IMAGES, anywhere=["name"])
    for who in {DEPLOY, CALLER}:
        never(
            "neither pulls nor writes nor deletes an image",
            who,
            "ecr:BatchDeleteImage ecr:BatchGetImage ecr:GetDownloadUrlForLayer ecr:PutImage ecr:StartImageScan",
            IMAGES,
        )
    LOOK_AROUND = (
        "access-analyzer:ValidatePolicy chatbot:DescribeSlackUserIdentities codecommit:ListRepositories "
        "ecs:DescribeTaskDefinition events:ListEventBuses events:ListRuleNamesByTarget "
        "iam:GetAccountAuthorizationDetails iam:ListRoles "
        "organizations:DescribeOrganization organizations:ListParents"
    )
    may("looks around", CALLER, LOOK_AROUND, None)
    never(
        "changes nothing there",
        CALLER,
        "access-analyzer:CreateAnalyzer ecs:RegisterTaskDefinition iam:CreateUser events:CreateArchive "
        "organizations:MoveAccount",
        None,
    )
    for look, change, target in (
        (
            "cloudformation:ListStackResources",
            "cloudformation:UpdateStack",
            arn("cloudformation", account, "stack/shop/1"),
        ),
        ("ecs:DescribeServices", "ecs:UpdateService", arn("ecs", account, "service/web/shop")),
    ):
        never_changes = but("to change it", "identity", does=change)
        may("looks for what a pipeline deploys", CALLER, look, target, never_changes, anywhere=["name"])
    MAKE_CHAT = (
        f"{CHANNELS} chatbot:CreateCustomAction chatbot:CreateMicrosoftTeamsChannelConfiguration "
        "chatbot:CreateSlackChannelConfiguration chatbot:GetMicrosoftTeamsChannelConfiguration "
        "chatbot:ListTagsForResource"
    )
    may("creates the channel", DEPLOY, MAKE_CHAT, None)
    for kind, chat in (("Slack", "slack"), ("MicrosoftTeams", "microsoft-teams")):
        does = called("chatbot", f"AWS::Chatbot::{kind}ChannelConfiguration", but_not=MAKE_CHAT)
        channel = f"arn:aws:chatbot::{account}:chat-configuration/{chat}-channel/sekisho-{account}-{REGION}"
        may("manages the channel", DEPLOY, does, channel)
    may(
        "manages the channel's buttons",
        DEPLOY,
        called("chatbot", "AWS::Chatbot::CustomAction", but_not=MAKE_CHAT),
        f"arn:aws:chatbot::{account}:custom-action/sekisho-access-{REGION}",
    )

# The account T, in which CloudFormation has a service role

SERVICE, BY_DEPLOYERS = DEPLOYED_BY[T]
STACK = arn("cloudformation", T, "stack/sekisho/1")
may(
    "is assumed by CloudFormation",
    "cloudformation.amazonaws.com",
    "sts:AssumeRole",
    SERVICE,
    but("for another stack", "resource", context={"aws:SourceArn": arn("cloudformation", T, "stack/shop/1")}),
    but("for another account", "resource", context={"aws:SourceAccount": STRANGER}),
    but("as another service", "resource", who="ec2.amazonaws.com"),
    but("as somebody of another account", "resource", who=f"arn:aws:iam::{STRANGER}:role/anybody"),
    context={"aws:SourceArn": STACK, "aws:SourceAccount": T},
)
may(
    "passes the service role",
    BY_DEPLOYERS,
    "iam:PassRole",
    SERVICE,
    but("to another service", "identity", context={"iam:PassedToService": "lambda.amazonaws.com"}),
    but("another role of the stack", "identity", to=role(T, "pipeline")),
    context={"iam:PassedToService": "cloudformation.amazonaws.com"},
)
never(
    "changes nothing without CloudFormation",
    BY_DEPLOYERS,
    "iam:PutRolePolicy iam:AttachRolePolicy iam:UpdateAssumeRolePolicy",
    role(T, "pipeline"),
)
never(
    "changes no channel without CloudFormation",
    BY_DEPLOYERS,
    "chatbot:DeleteSlackChannelConfiguration chatbot:UpdateSlackChannelConfiguration",
    f"arn:aws:chatbot::{T}:chat-configuration/slack-channel/sekisho-{T}-{REGION}",
)
never(
    "changes no repository without CloudFormation",
    BY_DEPLOYERS,
    "codecommit:CreateRepository codecommit:DeleteRepository",
    arn("codecommit", T, "shop"),
)
never(
    "changes no repository of images without CloudFormation",
    BY_DEPLOYERS,
    "ecr:CreateRepository ecr:PutLifecyclePolicy ecr:SetRepositoryPolicy",
    arn("ecr", T, "repository/shop"),
)
never("does not change the service role", SERVICE, "iam:PutRolePolicy iam:AttachRolePolicy", SERVICE, "NotItself")
# Calls of `make doctor`, which reads these resources. In account P, other policies of the role allow these calls.
for does, target, anywhere in [
    ("iam:GetPolicy iam:GetPolicyVersion", f"arn:aws:iam::{T}:policy/sekisho-access-boundary", []),
    (
        "iam:GetRole iam:GetRolePolicy iam:ListAttachedRolePolicies iam:ListRolePolicies",
        role(T, "pipeline"),
        [],
    ),
    (
        "lambda:GetFunction lambda:GetFunctionConfiguration lambda:GetPolicy",
        arn("lambda", T, "function:sekisho-pipeline-starter"),
        [],
    ),
    (
        "lambda:GetFunction lambda:GetFunctionConfiguration lambda:GetPolicy",
        arn("lambda", T, "function:temp-access"),
        [],
    ),
    ("lambda:GetLayerVersion", arn("lambda", T, "layer:sekisho-config:1"), []),
    ("events:DescribeEventBus", arn("events", T, "event-bus/sekisho"), []),
    ("events:DescribeRule events:ListTargetsByRule", arn("events", T, "rule/sekisho/sekisho-source-change"), []),
    ("kms:DescribeKey kms:GetKeyPolicy", arn("kms", T, "key/new"), ["name", "else there"]),
    ("codepipeline:GetPipeline", arn("codepipeline", T, "shop"), ["name"]),
    ("codebuild:BatchGetProjects", arn("codebuild", T, "project/shop"), ["name"]),
    ("codecommit:GetRepository", arn("codecommit", T, "shop"), ["name"]),
    ("ecr:DescribeRepositories ecr:GetRepositoryPolicy", arn("ecr", T, "repository/shop"), ["name"]),
    ("dynamodb:DescribeTable", arn("dynamodb", T, "table/sekisho-ledger"), []),
    ("sqs:GetQueueUrl", arn("sqs", T, "sekisho-pipeline-starter-dead-letters"), []),
]:
    may("looks at the stack", BY_DEPLOYERS, does, target, anywhere=anywhere)
may(
    "looks at the artifact bucket",
    BY_DEPLOYERS,
    "s3:GetBucketPolicy s3:ListBucket",
    bucket(T),
    context={"aws:SecureTransport": "true"},
)
may("looks at the channels", BY_DEPLOYERS, CHANNELS, None)
may(
    "looks at the alarms",
    BY_DEPLOYERS,
    "cloudwatch:DescribeAlarms",
    arn("cloudwatch", T, "alarm:shop-errors"),
    but("and silences one", "identity", does="cloudwatch:SetAlarmState"),
    anywhere=NOT_ELSE,
)
may("looks at the logs", BY_DEPLOYERS, "logs:DescribeLogGroups", None)
never(
    "changes no log without CloudFormation",
    BY_DEPLOYERS,
    "logs:DeleteLogGroup logs:PutRetentionPolicy",
    arn("logs", T, "log-group:/aws/lambda/sekisho-pipeline-starter"),
)
