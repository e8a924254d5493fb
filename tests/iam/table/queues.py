"""Requests about the queue of ranges and its dead letters, and about the stages that artifact-checker retries."""

from tests.iam.requests import WAYS, arn, but, may, never, role
from tests.iam.table.deployment import DEPLOYED_BY

for account, _, _ in WAYS:
    checker = role(account, "artifact-checker")
    may(
        "hands out the ranges of a sweep, and takes them",
        checker,
        "sqs:SendMessage sqs:ReceiveMessage sqs:DeleteMessage sqs:GetQueueAttributes",
        arn("sqs", account, "sekisho-artifact-ranges"),
        but("of another queue", "identity", to=arn("sqs", account, "sekisho-artifact-sweeper-dead-letters")),
    )
    never(
        "does not invoke itself",
        checker,
        "lambda:InvokeFunction",
        arn("lambda", account, "function:sekisho-artifact-checker"),
    )
    may(
        "retries a stage",
        checker,
        "codepipeline:RetryStageExecution",
        arn("codepipeline", account, "shop/Deploy"),
        anywhere=["name"],
        beyond="codepipeline:OverrideStageCondition",
    )
    may(
        "reads why a build failed",
        checker,
        "codebuild:BatchGetBuilds",
        arn("codebuild", account, "project/shop"),
        anywhere=["name"],
    )

for account, (deploy, caller) in DEPLOYED_BY.items():
    for function in ("event-relay", "pipeline-starter", "artifact-checker", "artifact-sweeper"):
        may(
            "redrives an event, and makes requests to event-relay",
            caller,
            "lambda:InvokeFunction",
            arn("lambda", account, f"function:sekisho-{function}"),
            but("to temp-access", "identity", to=arn("lambda", account, "function:temp-access")),
        )
        may(
            "takes an event out of a dead-letter queue",
            caller,
            "sqs:ChangeMessageVisibility sqs:DeleteMessage sqs:ReceiveMessage",
            arn("sqs", account, f"sekisho-{function}-dead-letters"),
            but("of another queue of this stack", "identity", to=arn("sqs", account, "sekisho-others")),
        )
    sweeper = arn("lambda", account, "function:sekisho-artifact-sweeper")
    mapping = arn("lambda", account, "event-source-mapping:0a1b2c3d-0a1b-0a1b-0a1b-0a1b2c3d4e5f")
    others = [
        but("of another function", "identity", context={"lambda:FunctionArn": other})
        for other in (
            arn("lambda", account, "function:shop-api"),
            arn("lambda", account, "function:temp-access"),
            arn("lambda", account, "function:sekisho-artifact-sweeper", "eu-west-1"),
            None,
        )
    ]
    of_sweeper = {"lambda:FunctionArn": sweeper}
    may("maps the queue to the function", deploy, "lambda:CreateEventSourceMapping", None, *others, context=of_sweeper)
    may(
        "manages the mapping",
        deploy,
        "lambda:DeleteEventSourceMapping lambda:GetEventSourceMapping lambda:UpdateEventSourceMapping",
        mapping,
        *others,
        context=of_sweeper,
        anywhere=["name", "else"],
    )
    may(
        "tags the mapping",
        deploy,
        "lambda:ListTags lambda:TagResource lambda:UntagResource",
        mapping,
        anywhere=["name"],
    )
