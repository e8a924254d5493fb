"""Requests of temp-access, of chat, and of the users who have access."""

from tests.iam.requests import ALL, KEY, STRANGER, UNIT_ACCOUNT, P, arn, bucket, but, may, never, role
from tools.layout import REGION

USERS = {account: f"arn:aws:iam::{account}:user/prd-user" for account in (P, ALL)}
for account, user in USERS.items():
    access, boundary = role(account, "temp-access"), f"arn:aws:iam::{account}:policy/sekisho-access-boundary"
    grantable = {"aws:ResourceTag/sekisho:access": "grantable", "iam:PermissionsBoundary": boundary}
    for kind, principal in (("User", user), ("Role", f"arn:aws:iam::{account}:role/support")):
        may(
            "reads a user or role",
            access,
            f"iam:Get{kind} iam:Get{kind}Policy iam:List{kind}Policies",
            principal,
            anywhere=["name"],
        )
        may(
            "grants and revokes access",
            access,
            f"iam:Put{kind}Policy iam:Delete{kind}Policy",
            principal,
            but("for a principal without the tag", "identity", context={"aws:ResourceTag/sekisho:access": None}),
            but(
                "for a principal with another tag",
                "identity",
                context={"aws:ResourceTag/sekisho:access": "no"},
            ),
            but("for a principal without a boundary", "identity", context={"iam:PermissionsBoundary": None}),
            but(
                "for a principal with another boundary",
                "identity",
                context={"iam:PermissionsBoundary": f"arn:aws:iam::{account}:policy/other"},
            ),
            context=grantable,
            anywhere=["name"],
        )
        never(
            "does not make anybody eligible",
            access,
            f"iam:Tag{kind} iam:Put{kind}PermissionsBoundary iam:Delete{kind}PermissionsBoundary "
            f"iam:Attach{kind}Policy",
            principal,
            context={},
        )
    may("lists grants", access, "iam:GetAccountAuthorizationDetails", None)
    may("finds open sessions", access, "ssm:DescribeSessions", None)
    may(
        "ends an open session",
        access,
        "ssm:TerminateSession",
        arn("ssm", account, "session/prd-user-0123456789abcdef0"),
        but("of another account's people", "identity", to=arn("ssm", STRANGER, "session/prd-user-0123456789abcdef0")),
        anywhere=["name"],
    )
    never("neither begins a session nor runs a command", access, "ssm:StartSession ssm:SendCommand")

for account, chat, other in (
    (P, "slack-channel", "microsoft-teams-channel"),
    (UNIT_ACCOUNT, "microsoft-teams-channel", "slack-channel"),
):
    channel = f"arn:aws:chatbot::{account}:chat-configuration/{chat}/sekisho-{account}-{REGION}"
    may(
        "is assumed by Chatbot",
        "chatbot.amazonaws.com",
        "sts:AssumeRole",
        role(account, "chat"),
        but("for another channel", "resource", context={"aws:SourceArn": channel.replace("sekisho-", "orders-")}),
        but("for a channel in another chat", "resource", context={"aws:SourceArn": channel.replace(chat, other)}),
        but("for another account", "resource", context={"aws:SourceAccount": STRANGER}),
        but("by another service", "resource", who="ec2.amazonaws.com"),
        but("by a stranger", "resource", who=f"arn:aws:iam::{STRANGER}:role/anybody"),
        context={"aws:SourceArn": channel, "aws:SourceAccount": account},
    )
CHAT = role(P, "chat")
may(
    "requests access in chat",
    CHAT,
    "lambda:InvokeFunction",
    arn("lambda", P, "function:temp-access"),
    but("for another function", "identity", to=arn("lambda", P, "function:shop-api")),
    but("a function whose name begins the same", "identity", to=arn("lambda", P, "function:temp-access-x")),
)
for account in (P, UNIT_ACCOUNT):
    chat = role(account, "chat")
    orders = arn("cloudwatch", account, "alarm:orders")
    may(
        "shows any alarm in chat",
        chat,
        "cloudwatch:DescribeAlarms cloudwatch:DescribeAlarmHistory",
        orders,
        anywhere=["account", "region", "name"],
    )
    may("shows the graph of an alarm in chat", chat, "cloudwatch:GetMetricWidgetImage cloudwatch:ListMetrics", None)
    never("does not change an alarm in chat", chat, "cloudwatch:PutMetricAlarm cloudwatch:SetAlarmState", orders)
    for group in ("sekisho-event-relay", "temp-access"):
        logs = arn("logs", account, f"log-group:/aws/lambda/{group}:log-stream:one")
        elsewhere = arn("logs", account, "log-group:/aws/lambda/shop-api:log-stream:one")
        other = but("of an application", "identity", to=elsewhere)
        may("shows a function's log in chat", chat, "logs:GetLogEvents", logs, other)
        may(
            "searches a function's log in chat",
            chat,
            "logs:DescribeLogStreams logs:DescribeMetricFilters logs:FilterLogEvents logs:GetLogGroupFields "
            "logs:GetLogRecord logs:GetQueryResults logs:StartQuery",
            logs.partition(":log-stream")[0],
            but("of an application", "identity", to=elsewhere.partition(":log-stream")[0]),
        )
    may("finds logs in chat", chat, "logs:DescribeLogGroups logs:StopQuery", None)
    never(
        "does not write or delete a log in chat",
        chat,
        "logs:DeleteLogGroup logs:PutRetentionPolicy logs:PutSubscriptionFilter",
        arn("logs", account, "log-group:/aws/lambda/sekisho-event-relay"),
    )
RELAY = "function:sekisho-event-relay"
may(
    "controls trains in chat",
    role(UNIT_ACCOUNT, "chat"),
    "lambda:InvokeFunction",
    arn("lambda", UNIT_ACCOUNT, RELAY),
    *(
        but(what, "identity", to=arn("lambda", UNIT_ACCOUNT, resource))
        for what, resource in (
            ("by the alias for the dashboard", f"{RELAY}:board"),
            ("by a version", f"{RELAY}:1"),
            ("a function whose name begins the same", f"{RELAY}-2"),
            ("the starter", "function:sekisho-pipeline-starter"),
            ("temp-access, where nobody grants access", "function:temp-access"),
        )
    ),
)
never(
    "does not control trains where there are no repositories",
    CHAT,
    "lambda:InvokeFunction",
    arn("lambda", P, RELAY),
)
CHECKER = "function:sekisho-artifact-checker"
may(
    "confirms a repair in chat",
    CHAT,
    "lambda:InvokeFunction",
    arn("lambda", P, CHECKER),
    *(
        but(what, "identity", to=arn("lambda", P, resource))
        for what, resource in (
            ("by the alias for the dashboard", f"{CHECKER}:board"),
            ("by a version", f"{CHECKER}:1"),
            ("a function whose name begins the same", f"{CHECKER}-2"),
            ("the sweeper", "function:sekisho-artifact-sweeper"),
        )
    ),
)
never("does nothing else in chat", CHAT, "lambda:UpdateFunctionCode iam:GetUser s3:ListAllMyBuckets")

NOW = {"aws:CurrentTime": "2026-11-21T12:00:00Z"}  # a time inside the window of the grant in test_requests.py
for account, user in USERS.items():
    may(
        "works inside the window",
        user,
        (
            "athena:StartQueryExecution batch:DescribeJobs cloudwatch:PutMetricAlarm codecommit:GetFile "
            "dynamodb:PutItem ec2:StopInstances glue:GetTable kinesis:PutRecord lakeformation:GetDataAccess "
            "lambda:InvokeFunction logs:FilterLogEvents rds:RebootDBInstance s3:GetObject s3:PutObject sns:Publish "
            "sqs:SendMessage ssm:StartSession"
        ),
        None,
        but("before it", "identity", context={"aws:CurrentTime": "2026-11-21T08:00:00Z"}),
        but("after it", "identity", context={"aws:CurrentTime": "2026-11-21T16:00:00Z"}),
        context=NOW,
    )
    may(
        "lets AWS use a key for a volume",
        user,
        "kms:CreateGrant",
        arn("kms", account, "key/volumes"),
        but("grants the key to somebody", "GrantsOfKeys", context={"kms:GrantIsForAWSResource": "false"}),
        but("grants the key without naming a resource", "GrantsOfKeys", context={"kms:GrantIsForAWSResource": None}),
        context=NOW | {"kms:GrantIsForAWSResource": "true"},
    )
    for action, resource in [
        ("cloudformation:DeleteStack", arn("cloudformation", account, "stack/sekisho/1")),
        ("cloudwatch:DeleteAlarms", arn("cloudwatch", account, "alarm:sekisho-temp-access-errors")),
        ("cloudwatch:DeleteDashboards", f"arn:aws:cloudwatch::{account}:dashboard/sekisho-{REGION}"),
        ("dynamodb:PutItem", arn("dynamodb", account, "table/sekisho-ledger")),
        ("events:DeleteEventBus", arn("events", account, "event-bus/sekisho")),
        ("events:DisableRule", arn("events", account, "rule/sekisho-access-sweep")),
        ("iam:GetRole", role(account, "temp-access")),
        ("lambda:InvokeFunction", arn("lambda", account, "function:sekisho-pipeline-starter")),
        ("lambda:InvokeFunction", arn("lambda", account, "function:temp-access")),
        ("logs:DeleteLogGroup", arn("logs", account, "log-group:/aws/lambda/sekisho-pipeline-starter")),
        ("logs:DeleteLogGroup", arn("logs", account, "log-group:/aws/lambda/temp-access")),
        ("s3:PutObject", "arn:aws:s3:::aws-sam-cli-managed-default-samclisourcebucket-1a2b3c/one.zip"),
        ("s3:DeleteObject", bucket(account) + "/shop/one.zip"),
        ("sns:DeleteTopic", arn("sns", account, "sekisho-notices")),
        ("sqs:PurgeQueue", arn("sqs", account, "sekisho-pipeline-starter-dead-letters")),
        ("kms:ScheduleKeyDeletion", KEY[account]),
    ]:
        never("does not change this stack", user, action, resource, why="ThisStack", context=NOW)
may(
    "assumes a listed role",
    USERS[P],
    "sts:AssumeRole",
    f"arn:aws:iam::{STRANGER}:role/support",
    but("a role that is not listed", "OtherRoles", to=f"arn:aws:iam::{P}:role/admin"),
    context=NOW,
)
never(
    "assumes no role if none is listed",
    USERS[ALL],
    "sts:AssumeRole",
    f"arn:aws:iam::{STRANGER}:role/support",
    "OtherRoles",
    NOW,
)
