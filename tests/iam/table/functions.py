"""Requests of every function: its log, ledger, queue, topic, role and rules."""

from tests.iam.requests import ALL, STRANGER, UNIT_ACCOUNT, WAYS, E, P, R, T, arn, but, may, role

for account, what, function in [
    *((account, "event-relay", "sekisho-event-relay") for account in (R, ALL, UNIT_ACCOUNT)),
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
    more = {
        "event-relay": " dynamodb:BatchGetItem dynamodb:Query",
        "pipeline-starter": " dynamodb:BatchGetItem dynamodb:Query",
        "temp-access": " dynamodb:Query dynamodb:DeleteItem",
        "artifact-checker": " dynamodb:BatchGetItem dynamodb:Query",
    }[what]
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
            "sends a dead letter",
            who,
            "sqs:SendMessage",
            queue,
            but("in another queue", "identity", to=arn("sqs", account, "orders")),
        )
    may(
        "publishes a notice",
        who,
        "sns:Publish",
        arn("sns", account, "sekisho-notices"),
        but("on another topic", "identity", to=arn("sns", account, "orders")),
    )
    may(
        "assumes its role",
        "lambda.amazonaws.com",
        "sts:AssumeRole",
        who,
        but("as another service", "resource", who="ec2.amazonaws.com"),
        but("as somebody of another account", "resource", who=f"arn:aws:iam::{STRANGER}:role/anybody"),
    )

RELAY_RULES = {
    "sekisho-event-relay": [
        "sekisho-repository-change",
        "sekisho-pull-request-merge",
        "sekisho-image-change",
        "sekisho-reconcile",
        "sekisho/sekisho-order-report",
    ]
}
PIPELINE_RULES = {
    "sekisho-pipeline-starter": [
        "sekisho/sekisho-source-change",
        "sekisho-pipeline-end",
        "sekisho-approval-waits",
        "sekisho-follow-up",
        "sekisho-alarm-state",
    ],
    "sekisho-artifact-checker": ["sekisho-artifact-write", "sekisho-artifact-sweep"],
}
ACCESS_RULES = {"temp-access": ["sekisho-access-sweep", "sekisho-access-follow-up"]}
RULES = {
    R: RELAY_RULES,
    T: PIPELINE_RULES,
    P: PIPELINE_RULES | ACCESS_RULES,
    ALL: RELAY_RULES | PIPELINE_RULES | ACCESS_RULES,
    E: PIPELINE_RULES,
    UNIT_ACCOUNT: RELAY_RULES,
}
for account, functions in RULES.items():
    for function, rules in functions.items():
        for rule in rules:
            by = {"aws:SourceArn": arn("events", account, f"rule/{rule}"), "aws:SourceAccount": account}
            other = but("for another rule", "resource", context={"aws:SourceArn": arn("events", account, "rule/other")})
            may(
                "invokes a function by its rule",
                "events.amazonaws.com",
                "lambda:InvokeFunction",
                arn("lambda", account, f"function:{function}"),
                other,
                but("as another service", "resource", who="s3.amazonaws.com"),
                context=by,
            )
            if function != "temp-access":
                may(
                    "sends a dead letter of a rule",
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
