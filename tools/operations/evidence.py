"""The smoke checks that create nothing. They look for traces in AWS that show whether a fact holds."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from botocore.exceptions import ClientError

from tools.operations.facts import Place, Seen, fails, hidden, holds, unique_name

DENIED = re.compile(r"not authorized|access ?denied|unauthorized|forbidden", re.IGNORECASE)
STARTS = ("CREATE_IN_PROGRESS", "UPDATE_IN_PROGRESS", "DELETE_IN_PROGRESS")
SAM_STACK = "aws-sam-cli-managed-default"
# A stopped execution that abandons its action ends within this time.
STOPPING = timedelta(minutes=5)
# Who opened a session of Session Manager: the ARN of a user, or of a role's session.
OWNER = re.compile(r"arn:aws[a-z-]*:(iam::\d{12}:user/.+|sts::\d{12}:assumed-role/[^/]+/[^/]+)")
TEMP_ACCESS = "assumed-role/sekisho-temp-access-"
# The outcomes that pipeline-starter can record for an event that it trusts.
TRUSTED = {"started", "duplicate", "stale", "filtered"}


def cloudformation_may_do_everything(place: Place) -> Seen:
    """Looks for denied permissions in the events of the stack's last operation."""
    stack, found = place.target.stack, []
    pages = place.client("cloudformation").get_paginator("describe_stack_events").paginate(StackName=stack)
    for event in (event for page in pages for event in page["StackEvents"]):
        found.append(event)
        if event["PhysicalResourceId"] == event["StackId"] and event["ResourceStatus"] in STARTS:
            break
    refused = [
        f"{event['LogicalResourceId']}: {event.get('ResourceStatusReason')}"
        for event in found
        if event["ResourceStatus"].endswith("FAILED") and DENIED.search(event.get("ResourceStatusReason", ""))
    ]
    if refused:
        return fails("; ".join(refused))
    status = found[0]["ResourceStatus"]
    if status in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
        return holds(f"the last operation of stack {stack} ended as {status}")
    return hidden(f"the last operation of stack {stack} is {status}, and not because of a permission: deploy again")


def outer_account_is_the_relays(place: Place) -> Seen:
    """Looks for relayed events that pipeline-starter trusted or refused."""
    found = list(place.decisions("pipeline-starter"))
    if trusted := [one for one in found if one["outcome"] in TRUSTED and "id" in one]:
        return holds(f"pipeline-starter trusted {len(trusted)} relayed events")
    repository = place.target.parameters.get("RepositoryAccountId") or place.id
    foreign = {one["account"] for one in found if one["outcome"] == "refused" and "account" in one} - {repository}
    if foreign:
        return fails(f"relayed events came with the outer account {', '.join(sorted(foreign))}, not {repository}")
    return hidden("no relayed event arrived since yesterday: push a change, then check again")


def rules_invoke_their_targets(place: Place) -> Seen:
    """Reads how often EventBridge could not invoke the target of a rule."""
    invoked, failed = [], []
    for rule in place.resources("AWS::Events::Rule"):
        bus, _, name = rule.rpartition("|")
        dimensions = {"RuleName": name} | ({"EventBusName": bus} if bus else {})
        if count := place.total("AWS/Events", "FailedInvocations", **dimensions):
            failed.append(f"{name} ({count:.0f})")
        elif place.total("AWS/Events", "Invocations", **dimensions):
            invoked.append(name)
    if failed:
        return fails(f"failed invocations since yesterday: {', '.join(failed)}")
    if invoked:
        return holds(f"invoked since yesterday, without a failure: {', '.join(invoked)}")
    return hidden("CloudWatch has no invocations of the stack's rules since yesterday")


def actions_succeed(place: Place) -> Seen:
    """Reads the actions of the last execution of each routed pipeline."""
    succeeded, failed, client = [], [], place.client("codepipeline")
    for name in [route.pipeline for route in place.routes]:
        # Only the last execution is read, because the cause of an earlier failure may have been repaired since.
        last = client.list_pipeline_executions(pipelineName=name, maxResults=1)["pipelineExecutionSummaries"]
        if not last:
            continue
        execution = {"pipelineExecutionId": last[0]["pipelineExecutionId"]}
        for action in client.list_action_executions(pipelineName=name, filter=execution)["actionExecutionDetails"]:
            where = f"{name}/{action['actionName']}"
            if action["status"] == "Failed":
                summary = action.get("output", {}).get("executionResult", {}).get("externalExecutionSummary")
                failed.append(f"{where}: {summary}")
            elif action["status"] == "Succeeded":
                succeeded.append(where)
    if failed:
        return fails("; ".join(failed))
    if succeeded:
        return holds(f"succeeded in the last execution: {', '.join(succeeded)}")
    return hidden("no routed pipeline of this account ran yet: push a change, then check again")


def channel_gets_messages(place: Place) -> Seen:
    """Reads how often a topic could not deliver a message to the channel."""
    if not place.target.parameters.get("SlackChannelId"):
        return hidden("the environment has no Slack channel")
    names = [arn.rpartition(":")[2] for arn in place.resources("AWS::SNS::Topic")]
    failed = {name: place.total("AWS/SNS", "NumberOfNotificationsFailed", TopicName=name) for name in names}
    if any(failed.values()):
        return fails(
            ", ".join(f"topic {name} could not deliver {count:.0f}" for name, count in failed.items() if count)
        )
    delivered = sum(place.total("AWS/SNS", "NumberOfNotificationsDelivered", TopicName=name) for name in names)
    return hidden(
        f"{delivered:.0f} messages were delivered since yesterday: look at the channel while an approval waits"
    )


def organizational_unit_is_enough(place: Place) -> Seen:
    """Looks for changes that event-relay could not deliver to the accounts of the unit."""
    if not place.target.parameters.get("PipelineOrgPath"):
        return hidden("the environment sets no PipelineOrgPath")
    sqs = place.client("sqs")
    queue = sqs.get_queue_url(QueueName="sekisho-event-relay-dead-letters")["QueueUrl"]
    attribute = "ApproximateNumberOfMessages"
    waiting = int(sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=[attribute])["Attributes"][attribute])
    if waiting:
        return fails(f"{waiting} events wait in event-relay's dead-letter queue")
    relayed = [one for one in place.decisions("event-relay") if one["outcome"] == "relayed"]
    if relayed:
        return holds(
            f"{len(relayed)} changes were relayed since yesterday, and no event waits in the dead-letter queue"
        )
    return hidden("no change was relayed since yesterday: push a change, then check again")


def reports_arrive(place: Place) -> Seen:
    """Looks for reports of pipeline accounts that event-relay stored.

    event-relay stores a report only if the event's outer account and the report's region and pipeline are a target.
    """
    stored = sum(one["outcome"] == "reported" for one in place.decisions("event-relay"))
    if stored:
        return holds(f"event-relay stored {stored} reports since yesterday")
    return hidden("event-relay stored no report since yesterday: push a change, then check again")


def buttons_appear(_place: Place) -> Seen:
    """Always returns `hidden`, because no API shows what Slack displays."""
    return hidden("only the channel shows it: grant access, wait until it ends, and look at both notices")


def jobs_repair_artifacts(place: Place) -> Seen:
    """Looks for the ends of repairs by S3 Batch Operations in the decisions of artifact-checker."""
    ended = [one for one in place.decisions("artifact-checker") if "code" in one]
    for one in ended:
        if one["outcome"] == "unknown":
            return fails(one["reason"])
    if any(one["outcome"] == "repaired" for one in ended):
        return holds("a job has repaired artifacts, and its report was read")
    return hidden("no job repaired artifacts since yesterday: deploy with `confirm_above = 0`, and confirm a repair")


def buttons_of_trains_appear(place: Place) -> Seen:
    """Always returns `hidden`, because no API shows what Slack displays."""
    if not place.target.parameters.get("SlackChannelId"):
        return hidden("the environment has no Slack channel")
    return hidden("only the channel shows it: hold a train with make hold, and look at the notice")


def abandoned_executions_stop(place: Place) -> Seen:
    """Looks for executions of the routed pipelines that were stopped, or that have been stopping for minutes."""
    stopped, stopping, client, now = 0, [], place.client("codepipeline"), datetime.now(UTC)
    for name in [route.pipeline for route in place.routes]:
        for one in client.list_pipeline_executions(pipelineName=name, maxResults=100)["pipelineExecutionSummaries"]:
            stopped += one["status"] == "Stopped"
            if one["status"] == "Stopping" and now - one["lastUpdateTime"] > STOPPING:
                stopping.append(f"{name}/{one['pipelineExecutionId']}")
    if stopping:
        return fails(f"stopping for more than {STOPPING}: {', '.join(stopping)}")
    if stopped:
        return holds(f"{stopped} executions of the routed pipelines were stopped, and none is stopping")
    return hidden("no execution of a routed pipeline was stopped: let one wait for an approval, and roll the wave back")


def card_shows_graph(place: Place) -> Seen:
    """Always returns `hidden`, because no API shows what Slack displays."""
    if not place.target.parameters.get("SlackChannelId"):
        return hidden("the environment has no Slack channel")
    command = "aws cloudwatch set-alarm-state --alarm-name sekisho-… --state-value ALARM --state-reason test"
    return hidden(f"only the channel shows it: {command}, then look at the channel")


def sam_bucket_was_created(place: Place) -> Seen:
    """Reads whether sam's stack has created the bucket for packages."""
    try:
        stack = place.client("cloudformation").describe_stacks(StackName=SAM_STACK)["Stacks"][0]
    except ClientError as error:
        if error.response["Error"]["Code"] != "ValidationError":
            raise
        return hidden("sam has no bucket here yet: the first make deploy creates it")
    status, reason = stack["StackStatus"], stack.get("StackStatusReason", "")
    if status in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
        return holds(f"stack {SAM_STACK} is {status}")
    return fails(f"stack {SAM_STACK} is {status}: {reason}")


def only_the_checker_repairs(place: Place) -> Seen:
    """Tries to change the encryption of an object that does not exist, and looks for repairs of artifact-checker."""
    bucket, key = place.outputs["ArtifactBucketName"], place.outputs["ArtifactKeyArn"]
    wanted = {"SSEKMS": {"KMSKeyArn": key}}
    try:
        place.client("s3").update_object_encryption(Bucket=bucket, Key=unique_name(), ObjectEncryption=wanted)
    except ClientError as error:
        if error.response["Error"]["Code"] != "AccessDenied":
            return fails(f"S3 looked for the object instead of refusing: {error}")
        if "explicit deny" not in str(error):
            raise
    repaired = sum(one["outcome"] == "repaired" for one in place.decisions("artifact-checker"))
    if repaired:
        return holds(f"your change is denied, and artifact-checker repaired {repaired} objects since yesterday")
    return hidden("your change is denied, but artifact-checker repaired nothing since yesterday")


def chat_sessions_name_nobody(place: Place) -> Seen:
    """Reads the session names under which Chatbot assumed the channel's role."""
    names = set()
    for event in recorded(place, "AssumeRole"):
        request: dict[str, Any] = event.get("requestParameters") or {}
        if "role/sekisho-chat-" in request.get("roleArn", ""):
            names.add(str(request.get("roleSessionName")))
    if not names:
        return hidden("CloudTrail has no session of the channel: type a command in the channel, wait 15 minutes")
    if len(names) == 1:
        return holds(f"all sessions have the name {names.pop()}")
    return fails(f"the sessions have several names: {', '.join(sorted(names))}")


def sessions_are_ended(place: Place) -> Seen:
    """Reads who opened the sessions of Session Manager that have ended, and what temp-access got for ending them."""
    pages = place.client("ssm").get_paginator("describe_sessions").paginate(State="History")
    owners = [str(session.get("Owner")) for page in pages for session in page.get("Sessions", [])]
    if strange := [owner for owner in owners if not OWNER.fullmatch(owner)]:
        return fails(f"a session shows {strange[0]} as its owner")
    ends = [event for event in recorded(place, "TerminateSession") if TEMP_ACCESS in json.dumps(event["userIdentity"])]
    if failed := [event["errorCode"] for event in ends if event.get("errorCode")]:
        return fails(f"temp-access could not end {len(failed)} of {len(ends)} sessions: {failed[0]}")
    if not ends or not owners:
        return hidden("temp-access has ended no session: open one while a grant is live, revoke, and wait 15 minutes")
    return holds(f"temp-access ended {len(ends)} sessions, and {len(owners)} sessions show who opened them")


def lambda_pulls_from_another_account(place: Place) -> Seen:
    """Looks for functions that run from an image in another account's repository, and for those that Lambda refused."""
    running, functions = [], place.client("lambda")
    found = [one for page in functions.get_paginator("list_functions").paginate() for one in page["Functions"]]
    for name in [one["FunctionName"] for one in found if one.get("PackageType") == "Image"]:
        one = functions.get_function(FunctionName=name)
        image, settings = one["Code"]["ImageUri"], one["Configuration"]
        if image.startswith(place.id):
            continue
        if settings.get("StateReasonCode") == "ImageAccessDenied":
            return fails(f"Lambda could not pull {image} for function {name}: {settings.get('StateReason')}")
        running.append(name)
    if running:
        return holds(f"functions run from images in another account: {', '.join(running)}")
    return hidden("no function here has an image of another account: create one from an image that is shared by unit")


def recorded(place: Place, name: str) -> Iterator[dict[str, Any]]:
    """The events of this name in CloudTrail, the newest ones first."""
    pages = (
        place.client("cloudtrail")
        .get_paginator("lookup_events")
        .paginate(
            LookupAttributes=[{"AttributeKey": "EventName", "AttributeValue": name}],
            # CloudTrail answers only two calls a second, each with 50 events at most, so MaxItems limits the time.
            PaginationConfig={"MaxItems": 1000, "PageSize": 50},
        )
    )
    return (json.loads(event["CloudTrailEvent"]) for page in pages for event in page.get("Events", []))


def because_of(error: Exception) -> Seen:
    """The result of a check that ended early, because AWS refused a call or a call failed."""
    if isinstance(error, ClientError) and DENIED.search(str(error)):
        return hidden(f"your credentials may not do this; use PROFILE=… of an administrator: {error}")
    return hidden(f"a call failed: {error}")
