"""The hops of the delivery path, in the order in which a change passes them. The checks read deployed resources."""

import json
from collections.abc import Callable
from typing import NamedTuple

from botocore.exceptions import ClientError

from tools.layout import BUS, CONFIG
from tools.operations.account import Account, Broken, need
from tools.operations.images import IMAGE_CHANGE, READ_IMAGE, images_can_be_pulled
from tools.operations.path import DeliveryPath
from tools.operations.pipelines import builds_use_key, pipelines_are_correct, pipelines_exist
from tools.operations.policy import Unclear
from tools.operations.pulls import tasks_can_pull
from tools.operations.roles import no_other_role_is_admitted
from tools.operations.routes import Route, includes, routes_to

READ_HEADS = [
    "codecommit:GetBranch",
    "codecommit:GetDifferences",
    "codecommit:GetFolder",
    "codecommit:GetRepository",
    "codecommit:ListBranches",
]
REPORT = {"events:source": "sekisho.starter", "events:detail-type": "Order Report"}
READ_SOURCE = [
    "codecommit:UploadArchive",
    "codecommit:GetBranch",
    "codecommit:GetCommit",
    "codecommit:GetUploadArchiveStatus",
]
# CodePipeline sets an ACL on each object that it writes to another account's bucket, to give that account the object.
PUT_ARTIFACT = ["s3:PutObject", "s3:PutObjectAcl"]
START_PIPELINE = [
    "codepipeline:StartPipelineExecution",
    "codepipeline:GetPipelineExecution",
    "codepipeline:ListPipelineExecutions",
    "codepipeline:ListActionExecutions",
    "codepipeline:GetPipeline",
    "codepipeline:StopPipelineExecution",
]
READ_ALARMS = ["cloudwatch:DescribeAlarms", "cloudwatch:DescribeAlarmHistory"]
# pipeline-starter judges a bake by at most this many alarms.
MOST_ALARMS = 100
HAND_ON_ARTIFACTS = ["s3:GetObject", "s3:GetObjectVersion", "s3:PutObject"]


def same_routes(path: DeliveryPath) -> None:
    """Compares the routes of both accounts with those in the local sekisho.toml."""
    for account, function in ((path.repositories, path.relay), (path.pipelines, path.starter)):
        try:
            text, target = account.config(function), path.pipelines
            deployed = routes_to(target.id, target.region, text, path.repositories.region)
        except Unclear as unclear:
            path.unclear.append(f"whether account {account.id} has the same routes: {unclear}")
            continue
        fix = f"{account.deploy}, if {CONFIG.name} here is newer"
        for route in path.routes:
            problem = f"account {account.id} has no route of {route}, which {CONFIG.name} here has"
            need(route in deployed, problem, fix)
        for route in deployed:
            problem = f"account {account.id} has a route of {route}, which {CONFIG.name} here lacks"
            need(route in path.routes, problem, fix)


def relay_is_invoked(path: DeliveryPath) -> None:
    """Checks the rules that invoke event-relay about the repositories."""
    change = {"source": ["aws.codecommit"], "detail-type": ["CodeCommit Repository State Change"]}
    path.repositories.need_rule("sekisho-repository-change", change, path.relay)
    if any(route.is_image for route in path.routes):
        path.repositories.need_rule("sekisho-image-change", IMAGE_CHANGE, path.relay)
    path.repositories.need_rule("sekisho-reconcile", "rate(5 minutes)", path.relay)


def relay_runs(path: DeliveryPath) -> None:
    """Checks event-relay and its access to the repositories."""
    role = path.need_function(path.repositories, path.relay, path.relay_role, "dynamodb:BatchGetItem")
    for route in path.routes:
        name, fix = route.repository, path.repositories.deploy
        read, arn = (READ_IMAGE, path.image_arn(name)) if route.is_image else (READ_HEADS, path.repository_arn(name))
        path.need_permission(role, read, arn, f"read {name}", fix)
        if route.names_one_repository:
            continue
        if route.is_image:
            path.need_permission(role, ["ecr:DescribeRepositories"], path.image_arn("*"), f"look for {name}", fix)
            path.need_permission(role, ["ecr:DescribePullThroughCacheRules"], "*", "look for caches", fix)
        else:
            path.need_permission(role, ["codecommit:ListRepositories"], "*", f"look for {name}", fix)


def relay_may_put_events(path: DeliveryPath) -> None:
    """Checks event-relay's permission on the bus."""
    bus = f"arn:aws:events:{path.pipelines.region}:{path.pipelines.id}:event-bus/{BUS}"
    role = path.repositories.role(path.relay_role)
    path.need_permission(role, ["events:PutEvents"], bus, f"put events on {bus}", path.name_pipelines)


def bus_admits_relay(path: DeliveryPath) -> None:
    """Checks that the bus's policy admits event-relay."""
    bus, policy = path.pipelines.output("EventBusArn", "HostsPipelines"), path.pipelines.policy_of_bus()
    context = {"events:source": "sekisho.relay", "events:detail-type": "Source Change"}
    owner = f"the policy of {bus}"
    path.need_admission(policy, path.relay_role, "events:PutEvents", bus, owner, path.name_repositories, context)


def starter_is_invoked(path: DeliveryPath) -> None:
    """Checks the rule that invokes pipeline-starter, and the account from which pipeline-starter accepts events."""
    change = {"source": ["sekisho.relay"], "detail-type": ["Source Change"], "account": [path.repositories.id]}
    path.pipelines.need_rule("sekisho-source-change", change, path.starter, BUS, path.name_repositories)
    variables = path.pipelines.function(path.starter)["Configuration"]["Environment"]["Variables"]
    need(
        variables.get("REPOSITORY_ACCOUNT_ID") == path.repositories.id,
        "pipeline-starter accepts events from another account",
        path.name_repositories,
    )


def starter_runs(path: DeliveryPath) -> None:
    """Checks pipeline-starter and its access to the pipelines."""
    role = path.need_function(path.pipelines, path.starter, path.starter_role)
    for route in path.routes:
        pipeline = route.pipeline
        arn = path.pipeline_arn(pipeline)
        path.need_permission(role, START_PIPELINE, arn, f"start {pipeline}", path.pipelines.deploy)


def roles_are_assumed(path: DeliveryPath) -> None:
    """Checks the chain of roles: CodePipeline → the pipeline's role → the source role."""
    context = {
        "aws:SourceAccount": path.pipelines.id,
        "aws:SourceArn": path.pipeline_arn(path.routes[0].pipeline),
    }
    role = path.need_trust(path.pipelines, path.pipeline_role, "codepipeline.amazonaws.com", context)
    fix = f"{path.name_repositories} (RepositoryRegion, too, if it differs)"
    path.need_permission(role, ["sts:AssumeRole"], path.source_role, f"take {path.source_role}", fix)
    trust = path.repositories.role(path.source_role).trust
    owner = f"the trust of {path.source_role}"
    path.need_admission(trust, path.pipeline_role, "sts:AssumeRole", "*", owner, path.name_pipelines)


def repositories_exist(path: DeliveryPath) -> None:
    """Checks each routed repository and the source role's access to it."""
    role, codecommit = path.repositories.role(path.source_role), path.repositories.client("codecommit")
    pages = codecommit.get_paginator("list_repositories").paginate()
    names = [one["repositoryName"] for page in pages for one in page["repositories"]]
    for name in [route.repository for route in path.routes if route.names_one_repository and not route.is_image]:
        problem = f"account {path.repositories.id} has no repository {name}"
        need(name in names, problem, f"create it there, or correct `repository` in {CONFIG.name}")
        arn = path.repository_arn(name)
        path.need_permission(role, READ_SOURCE, arn, f"read {name}", path.repositories.deploy)
        _need_key_of_repository(path, name)


def _need_key_of_repository(path: DeliveryPath, name: str) -> None:
    """Raises `Broken` unless the roles that read the repository may use its key, or the key is AWS's own."""
    account = path.repositories
    try:
        key = account.client("codecommit").get_repository(repositoryName=name)["repositoryMetadata"].get("kmsKeyId")
        if not key or key.endswith("alias/aws/codecommit"):
            return
        kms = account.client("kms")
        about = kms.describe_key(KeyId=key)["KeyMetadata"]
        if about["KeyManager"] == "AWS":
            return
        policy = json.loads(kms.get_key_policy(KeyId=about["Arn"], PolicyName="default")["Policy"])
    except ClientError as error:
        path.unclear.append(f"whether repository {name} is under a key that the roles may use ({error})")
        return
    arn = about["Arn"]
    context = {"kms:ViaService": f"codecommit.{account.region}.amazonaws.com"}
    owner = f"key {arn} of repository {name}"
    fix = account.administrator(
        f"codecommit update-repository-encryption-key --repository-name {name} --kms-key-id alias/aws/codecommit"
    )
    for role in (path.relay_role, path.source_role):
        purpose = f"use key {arn}, under which repository {name} is encrypted"
        path.need_permission(account.role(role), ["kms:Decrypt"], arn, purpose, fix, context)
        path.need_admission(policy, role, "kms:Decrypt", arn, owner, fix, context)


def bucket_admits_source(path: DeliveryPath) -> None:
    """Checks the source role's permission on the artifact bucket, and the bucket's policy."""
    resource = f"arn:aws:s3:::{path.bucket}/one"
    role = path.repositories.role(path.source_role)
    path.need_permission(role, PUT_ARTIFACT, resource, f"write to {path.bucket}", path.name_pipelines)
    try:
        document = json.loads(path.pipelines.client("s3").get_bucket_policy(Bucket=path.bucket)["Policy"])
    except ClientError as error:
        raise Broken(f"the policy of bucket {path.bucket} can't be read ({error})", path.pipelines.deploy) from None
    encryption = "s3:x-amz-server-side-encryption"
    context = {encryption: "aws:kms", f"{encryption}-aws-kms-key-id": path.key}
    owner, fix = f"bucket {path.bucket}", path.name_repositories
    for action in PUT_ARTIFACT:
        path.need_admission(document, path.source_role, action, resource, owner, fix, context)


def key_admits_source(path: DeliveryPath) -> None:
    """Checks the artifact key's state, and the source role's use of the key."""
    state = path.pipelines.client("kms").describe_key(KeyId=path.key)["KeyMetadata"]["KeyState"]
    command = "cancel-key-deletion" if state == "PendingDeletion" else "enable-key"
    fix = path.pipelines.administrator(f"kms {command} --key-id {path.key}")
    need(state == "Enabled", f"key {path.key} is {state}", fix)
    role = path.repositories.role(path.source_role)
    path.need_use_of_key(role, path.repositories.deploy, path.name_repositories)


def pipeline_hands_on_artifacts(path: DeliveryPath) -> None:
    """Checks the pipeline role's use of the artifact bucket and the key."""
    role, fix = path.pipelines.role(path.pipeline_role), path.pipelines.deploy
    resource = f"arn:aws:s3:::{path.bucket}/one"
    path.need_permission(role, HAND_ON_ARTIFACTS, resource, f"hand on what is in {path.bucket}", fix)
    path.need_use_of_key(role, fix, fix)


def starter_reports(path: DeliveryPath) -> None:
    """Checks the rules by which pipeline-starter follows its executions, and its permission on the report bus."""
    ends = {
        "source": ["aws.codepipeline"],
        "detail-type": ["CodePipeline Pipeline Execution State Change"],
        "detail": {"state": ["SUCCEEDED", "FAILED", "STOPPED", "SUPERSEDED", "CANCELED", "RESUMED"]},
    }
    path.pipelines.need_rule("sekisho-pipeline-end", ends, path.starter)
    path.pipelines.need_rule("sekisho-follow-up", "rate(1 minute)", path.starter)
    role, bus = path.pipelines.role(path.starter_role), path.report_bus
    path.need_permission(role, ["events:PutEvents"], bus, f"put reports on {bus}", path.name_repositories, REPORT)


def report_bus_admits_starter(path: DeliveryPath) -> None:
    """Checks that the bus of the repository account admits pipeline-starter, and passes the reports to event-relay."""
    bus, owner = path.report_bus, f"the policy of {path.report_bus}"
    policy = path.repositories.policy_of_bus()
    path.need_admission(policy, path.starter_role, "events:PutEvents", bus, owner, path.name_pipelines, REPORT)
    report = {"source": ["sekisho.starter"], "detail-type": ["Order Report"]}
    path.repositories.need_rule("sekisho-order-report", report, path.relay, BUS)


def starter_watches_alarms(path: DeliveryPath) -> None:
    """Checks that pipeline-starter hears of alarms and may read them, and that each wave has alarms here."""
    rings = {
        "source": ["aws.cloudwatch"],
        "detail-type": ["CloudWatch Alarm State Change"],
        "detail": {"state": {"value": ["ALARM"]}},
    }
    path.pipelines.need_rule("sekisho-alarm-state", rings, path.starter)
    role = path.pipelines.role(path.starter_role)
    path.need_permission(role, READ_ALARMS, "*", "read the alarms", path.pipelines.deploy)
    baking = [route for route in path.routes if route.alarms]
    try:
        names = alarm_names(path.pipelines) if baking else []
    except ClientError as error:
        path.unclear.append(f"whether the waves of the routes have alarms in account {path.pipelines.id} ({error})")
        return
    for route in baking:
        need_alarms(path, route, names)


def alarm_names(account: Account) -> list[str]:
    """The names of the account's metric alarms and composite alarms."""
    kinds = ["MetricAlarm", "CompositeAlarm"]
    pages = account.client("cloudwatch").get_paginator("describe_alarms").paginate(AlarmTypes=kinds)
    return [alarm["AlarmName"] for page in pages for kind in kinds for alarm in page.get(f"{kind}s", [])]


def need_alarms(path: DeliveryPath, route: Route, names: list[str]) -> None:
    """Raises `Broken` unless some alarms judge the bake of the route's wave, but not too many."""
    globs = ", ".join(route.alarms)
    wave = f"wave {route.wave} of {route.repository} bakes on the alarms {globs}"
    try:
        count = sum(includes(route.alarms, name, folders=False) for name in names)
    except Unclear as unclear:
        path.unclear.append(f"whether account {path.pipelines.id} has alarms: {wave}, {unclear}")
        return
    fix = f"create an alarm of such a name there, or correct `alarms` in {CONFIG.name} and deploy to both accounts"
    need(count > 0, f"{wave}, of which account {path.pipelines.id} has none, so each change ends as unknown", fix)
    most = f"{wave}, of which account {path.pipelines.id} has {count}: more than {MOST_ALARMS} end as unknown"
    need(count <= MOST_ALARMS, most, f"name fewer alarms in `alarms` of {CONFIG.name}, and deploy to both accounts")


class Hop(NamedTuple):
    """One hop: the statement that has to hold, and its check."""

    statement: str
    check: Callable[[DeliveryPath], None]


HOPS = [
    Hop("both accounts have the same routes to the pipeline account as config/sekisho.toml", same_routes),
    Hop("event-relay is invoked by each change, and every five minutes by a schedule", relay_is_invoked),
    Hop("event-relay runs, keeps its ledger and can read the repositories", relay_runs),
    Hop("event-relay may put events on the pipeline account's bus", relay_may_put_events),
    Hop("the bus admits event-relay", bus_admits_relay),
    Hop("pipeline-starter is invoked by events of the repository account, and accepts them", starter_is_invoked),
    Hop("pipeline-starter runs, keeps its ledger and may start each routed pipeline", starter_runs),
    Hop(
        "each routed pipeline exists, and its source action is of a routed repository and branch, or of a routed image",
        pipelines_exist,
    ),
    Hop(
        "each pipeline takes pins one at a time, its source action takes the repository account's role, nothing else "
        "starts the pipeline, and its artifacts go into the artifact bucket under the artifact key",
        pipelines_are_correct,
    ),
    Hop(
        "CodePipeline may assume the pipeline's role, and that role the repository account's source role",
        roles_are_assumed,
    ),
    Hop("each routed repository exists, and the source role may read it and use its key", repositories_exist),
    Hop("the source role may write to the artifact bucket, and the bucket admits it", bucket_admits_source),
    Hop("the source role may use the artifact key through S3, and the key admits it", key_admits_source),
    Hop("the pipeline's role may read and write artifacts, and use the key", pipeline_hands_on_artifacts),
    Hop("each build of a routed pipeline encrypts what it hands on under the artifact key", builds_use_key),
    Hop(
        "pipeline-starter is invoked every minute and when an execution ends or is retried, and may put reports on the "
        "bus of the repository account",
        starter_reports,
    ),
    Hop(
        "the bus of the repository account admits pipeline-starter, and passes its reports to event-relay",
        report_bus_admits_starter,
    ),
    Hop(
        "the policies of the buses, the source role, the bucket and the key admit no other role by its name or path",
        no_other_role_is_admitted,
    ),
    Hop(
        "pipeline-starter is invoked when an alarm rings, may read the alarms, and has some for each wave that bakes",
        starter_watches_alarms,
    ),
    Hop(
        "each routed repository of images exists, the source role may read it, and the pipeline account may pull from "
        "it",
        images_can_be_pulled,
    ),
    Hop(
        "each task of ECS that a routed pipeline deploys has an execution role that may pull its image",
        tasks_can_pull,
    ),
]
