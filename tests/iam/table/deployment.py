"""The role for deployment: the calls of CloudFormation's handlers for the template, of sam and of the operations.

The schemas that cfn-lint contains list the calls of the handlers. `tests/template/handlers.py` reads the schemas, and
names the calls that are left out because the template does not use them.
"""

from tests.iam.requests import ALL, STRANGER, P, arn, bucket, but, may, never, role
from tests.template import handlers
from tools.layout import REGION

DEPLOY = role(P, "deploy")
KINDS = handlers.kinds()


def called(service, *kinds, but_not=""):
    """The calls of CloudFormation to a service for these kinds of resources, or for all."""
    found = {action for kind in kinds or KINDS for action in handlers.calls(kind) if action.startswith(f"{service}:")}
    return " ".join(sorted(found - set(but_not.split())))


# A role of Identity Center; its path has the region of Identity Center, unless that is us-east-1.
SSO, HASH = "role/aws-reserved/sso.amazonaws.com", "AWSReservedSSO_Deploy_0123456789abcdef"
for who in ("role/ci", "user/ops-1", f"{SSO}/eu-west-1/{HASH}", f"{SSO}/{HASH}"):
    may(
        "is assumed by the named principals",
        f"arn:aws:iam::{ALL}:{who}",
        "sts:AssumeRole",
        DEPLOY,
        but("somebody else of that account", "resource", who=f"arn:aws:iam::{ALL}:role/developer"),
        but("somebody of another account", "resource", who=f"arn:aws:iam::{STRANGER}:{who}"),
        but("a role with a name of Identity Center", "resource", who=f"arn:aws:iam::{ALL}:role/{HASH}"),
        but("to set session tags", "resource", does="sts:TagSession"),
    )

# sam, and the stack

SAM = "arn:aws:s3:::aws-sam-cli-managed-default-samclisourcebucket-1a2b3c"
for stack in ("sekisho", "aws-sam-cli-managed-default"):
    may(
        "deploys a stack",
        DEPLOY,
        (
            "cloudformation:CreateChangeSet cloudformation:DeleteChangeSet cloudformation:DescribeChangeSet "
            "cloudformation:DescribeStackEvents cloudformation:DescribeStackResource "
            "cloudformation:DescribeStackResources cloudformation:DescribeStacks cloudformation:ExecuteChangeSet "
            "cloudformation:GetTemplate cloudformation:ListStackResources cloudformation:TagResource"
        ),
        arn("cloudformation", P, f"stack/{stack}/1"),
    )
may(
    "reads the version of its own template",
    DEPLOY,
    "cloudformation:DescribeStacks",
    arn("cloudformation", P, "stack/sekisho-deploy/1"),
    but("to change it", "identity", does="cloudformation:CreateChangeSet"),
)
may(
    "reads the region and the quotas of the account",
    DEPLOY,
    "account:GetRegionOptStatus lambda:GetAccountSettings servicequotas:ListServiceQuotas",
    None,
)
never("changes neither", DEPLOY, "account:DisableRegion servicequotas:RequestServiceQuotaIncrease", None)
may("reads a template", DEPLOY, "cloudformation:GetTemplateSummary", None)
may("puts a package", DEPLOY, "s3:GetObject s3:GetObjectVersion s3:PutObject", f"{SAM}/one.zip")
may("creates sam's bucket", DEPLOY, "s3:GetBucketLocation", SAM)
BUCKET = "AWS::S3::Bucket", "AWS::S3::BucketPolicy"
OF_OBJECTS = "s3:GetObject s3:GetObjectVersion"
# sam's bucket has no notifications and no lifecycle, and nobody deletes it.
may(
    "manages sam's bucket",
    DEPLOY,
    called(
        "s3",
        *BUCKET,
        but_not=(
            f"{OF_OBJECTS} s3:DeleteBucket s3:DeleteBucketPolicy s3:PutBucketNotification "
            "s3:PutBucketOwnershipControls s3:PutLifecycleConfiguration"
        ),
    ),
    SAM,
)
may("manages the artifact bucket", DEPLOY, called("s3", *BUCKET, but_not=OF_OBJECTS), bucket(P))
never(
    "does not read or write artifacts",
    DEPLOY,
    "s3:GetObject s3:PutObject",
    bucket(P) + "/shop/one.zip",
    context={"aws:SecureTransport": "true"},
)

# Identities

ROLE, POLICIES = role(P, "pipeline"), ("sekisho-access-boundary", f"sekisho-chat-{REGION}")
OF_POLICIES = called("iam", "AWS::IAM::ManagedPolicy")
PASSED = {"iam:PassedToService": "lambda.amazonaws.com"}
own_role = but("its own role", "NotItself", to=DEPLOY)
may("manages a role", DEPLOY, called("iam", "AWS::IAM::Role"), ROLE, own_role)
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
        f"arn:aws:iam::{P}:policy/{policy}",
        but("a policy of its own role", "identity", to=f"arn:aws:iam::{P}:policy/sekisho-deploy-stack-{REGION}"),
    )
may(
    "creates Chatbot's service-linked role",
    DEPLOY,
    "iam:CreateServiceLinkedRole",
    f"arn:aws:iam::{P}:role/aws-service-role/management.chatbot.amazonaws.com/AWSServiceRoleForAWSChatbot",
    but("of another service", "identity", context={"iam:AWSServiceName": "lex.amazonaws.com"}),
    context={"iam:AWSServiceName": "management.chatbot.amazonaws.com"},
)

# Functions and the resources around them

LAYER = "lambda:DeleteLayerVersion lambda:GetLayerVersion lambda:PublishLayerVersion"
for function in ("sekisho-pipeline-starter", "temp-access"):
    may(
        "manages a function",
        DEPLOY,
        called("lambda", but_not=LAYER) + " lambda:GetFunctionConfiguration lambda:ListTags",
        arn("lambda", P, f"function:{function}"),
    )
may(
    "manages the config layer",
    DEPLOY,
    "lambda:PublishLayerVersion",
    arn("lambda", P, "layer:sekisho-config"),
    anywhere=["else"],
)
may(
    "manages the config layer",
    DEPLOY,
    "lambda:DeleteLayerVersion lambda:GetLayerVersion",
    arn("lambda", P, "layer:sekisho-config:1"),
)
for function in ("event-relay", "pipeline-starter", "artifact-checker"):
    may(
        "redrives an event",
        DEPLOY,
        "lambda:InvokeFunction",
        arn("lambda", P, f"function:sekisho-{function}"),
        but("to temp-access", "identity", to=arn("lambda", P, "function:temp-access")),
    )
    may(
        "takes an event out of a dead-letter queue",
        DEPLOY,
        "sqs:ChangeMessageVisibility sqs:DeleteMessage sqs:ReceiveMessage",
        arn("sqs", P, f"sekisho-{function}-dead-letters"),
        but("of another queue of this stack", "identity", to=arn("sqs", P, "sekisho-others")),
    )
may("manages the ledger", DEPLOY, called("dynamodb"), arn("dynamodb", P, "table/sekisho-ledger"))
never(
    "does not use the ledger",
    DEPLOY,
    "dynamodb:GetItem dynamodb:PutItem dynamodb:DeleteItem",
    arn("dynamodb", P, "table/sekisho-ledger"),
)
PERMISSION = "events:PutPermission events:RemovePermission"
may(
    "manages the bus",
    DEPLOY,
    called("events", "AWS::Events::EventBus", but_not=PERMISSION),
    arn("events", P, "event-bus/sekisho"),
    beyond="events:PutEvents",
)
may("manages the bus's policy", DEPLOY, PERMISSION, None)
for rule in ("sekisho-access-sweep", "sekisho/sekisho-source-change"):
    of_rule = called("events", "AWS::Events::Rule", but_not="events:DescribeRule")
    may("manages a rule", DEPLOY, of_rule, arn("events", P, f"rule/{rule}"))
    may("reads a rule", DEPLOY, "events:DescribeRule", arn("events", P, f"rule/{rule}"), anywhere=["name"])
may(
    "manages a queue",
    DEPLOY,
    called("sqs") + " sqs:GetQueueUrl",
    arn("sqs", P, "sekisho-pipeline-starter-dead-letters"),
)
for topic in ("sekisho-notices", "sekisho-notices-chat"):
    may("manages a topic", DEPLOY, called("sns"), arn("sns", P, topic))
FIND = "logs:DescribeIndexPolicies logs:DescribeLogGroups logs:DescribeResourcePolicies"
for group in ("/aws/lambda/sekisho-pipeline-starter", "/aws/lambda/temp-access", "/aws/codebuild/shop"):
    may("manages a log", DEPLOY, called("logs", but_not=FIND), arn("logs", P, f"log-group:{group}"))
may("lists logs", DEPLOY, FIND, None)
may(
    "manages an alarm",
    DEPLOY,
    called("cloudwatch", "AWS::CloudWatch::Alarm"),
    arn("cloudwatch", P, "alarm:sekisho-temp-access-errors"),
)
may(
    "manages the dashboard",
    DEPLOY,
    called("cloudwatch", "AWS::CloudWatch::Dashboard"),
    f"arn:aws:cloudwatch::{P}:dashboard/sekisho-{REGION}",
)

# Key, pipeline, repository, chat

MAKE_KEY = "kms:CreateKey kms:ListAliases"
VIA = {"aws:CalledVia": ["cloudformation.amazonaws.com"]}
SHOP, PROJECT, REPOSITORY = (
    arn("codepipeline", P, "shop"),
    arn("codebuild", P, "project/shop"),
    arn("codecommit", P, "shop"),
)
may("creates a key", DEPLOY, MAKE_KEY, None)
KEEP_KEY = called("kms", "AWS::KMS::Key", "AWS::KMS::Alias", but_not=f"{MAKE_KEY} kms:ScheduleKeyDeletion")
ALIAS = "kms:CreateAlias kms:DeleteAlias kms:UpdateAlias"
# The key's own policy does not limit these calls.
may("manages a key", DEPLOY, KEEP_KEY, arn("kms", P, "key/new"), anywhere=["name", "else there"])
may("manages the alias of a key", DEPLOY, ALIAS, arn("kms", P, "alias/sekisho-artifacts"))
may(
    "deletes a new key",
    DEPLOY,
    "kms:ScheduleKeyDeletion",
    arn("kms", P, "key/new"),
    but("not through CloudFormation", "identity", context={"aws:CalledVia": None}),
    context=VIA,
    anywhere=["name", "else there"],
)
never("does not use a key", DEPLOY, "kms:Decrypt kms:GenerateDataKey kms:Encrypt", arn("kms", P, "key/new"))
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
LOOK_AROUND = (
    "access-analyzer:ValidatePolicy codecommit:ListRepositories events:ListEventBuses events:ListRuleNamesByTarget "
    "iam:ListRoles"
)
may("looks around", DEPLOY, LOOK_AROUND, None)
never("changes nothing there", DEPLOY, "access-analyzer:CreateAnalyzer iam:CreateUser events:CreateArchive", None)
MAKE_CHAT = (
    "chatbot:CreateCustomAction chatbot:CreateSlackChannelConfiguration "
    "chatbot:DescribeSlackChannelConfigurations chatbot:DescribeSlackWorkspaces chatbot:ListTagsForResource"
)
may("creates the channel", DEPLOY, MAKE_CHAT, None)
may(
    "manages the channel",
    DEPLOY,
    called("chatbot", "AWS::Chatbot::SlackChannelConfiguration", but_not=MAKE_CHAT),
    f"arn:aws:chatbot::{P}:chat-configuration/slack-channel/sekisho-{P}-{REGION}",
)
may(
    "manages the channel's buttons",
    DEPLOY,
    called("chatbot", "AWS::Chatbot::CustomAction", but_not=MAKE_CHAT),
    f"arn:aws:chatbot::{P}:custom-action/sekisho-access-{REGION}",
)
