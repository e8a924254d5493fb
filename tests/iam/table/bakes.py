"""Requests for a bake and for a rollback: alarms, and executions that wait."""

from tests.iam.requests import WAYS, arn, but, may, never, role

for account, _, _ in WAYS:
    starter, checker, cloudformation = (
        role(account, what) for what in ("pipeline-starter", "artifact-checker", "cloudformation")
    )
    shop, alarm = arn("codepipeline", account, "shop"), arn("cloudwatch", account, "alarm:shop-errors")
    may(
        "looks for the deploy actions of a pipeline, and stops an execution that waits",
        starter,
        "codepipeline:GetPipeline codepipeline:StopPipelineExecution",
        shop,
        anywhere=["name"],
    )
    # With a narrower resource, CloudWatch shows no composite alarms.
    may(
        "reads any alarm and its history",
        starter,
        "cloudwatch:DescribeAlarms cloudwatch:DescribeAlarmHistory",
        alarm,
        anywhere=["account", "region", "name"],
    )
    never(
        "does not change an alarm or its state",
        starter,
        "cloudwatch:DeleteAlarms cloudwatch:DisableAlarmActions cloudwatch:PutMetricAlarm cloudwatch:SetAlarmState",
        alarm,
    )
    never(
        "does not stop an execution of a pipeline",
        checker,
        "codepipeline:StopPipelineExecution codepipeline:StartPipelineExecution",
        shop,
    )
    may(
        "creates the alarms of the application",
        cloudformation,
        "cloudwatch:DeleteAlarms cloudwatch:ListTagsForResource cloudwatch:PutMetricAlarm cloudwatch:TagResource "
        "cloudwatch:UntagResource",
        alarm,
        but("of this stack", "identity", to=arn("cloudwatch", account, "alarm:sekisho-pipeline-starter-errors")),
        but("of another application", "identity", to=arn("cloudwatch", account, "alarm:shopkeeper")),
        but("and silences them", "identity", does="cloudwatch:SetAlarmState"),
    )
    may(
        "finds alarms",
        cloudformation,
        "cloudwatch:DescribeAlarms",
        alarm,
        anywhere=["account", "region", "name"],
    )
