"""The hops that look at routed pipelines: their declarations, the rules that start them, and their builds."""

from collections.abc import Callable, Iterator
from typing import Any

from botocore.exceptions import ClientError

from tools.layout import CONFIG, NO_TAG
from tools.operations.account import need
from tools.operations.path import DeliveryPath
from tools.operations.routes import Route, includes, matches


def pipelines_exist(path: DeliveryPath) -> None:
    """Checks that each routed pipeline exists, and that its source action matches the routes."""
    branches: dict[tuple[str, str], list[tuple[str, ...]]] = {}
    for route in path.routes:
        if route.branches:
            branches.setdefault((route.pipeline, route.action), []).append(route.branches)
    for route in path.routes:
        _check_source(path, route, branches.get((route.pipeline, route.action), []))


def _check_source(path: DeliveryPath, route: Route, lists: list[tuple[str, ...]]) -> None:
    """Checks the source action of a routed pipeline; `lists` are the branch globs of each route to that action."""
    _, source = path.source_action(route)
    settings, kind = source.get("configuration", {}), source["actionTypeId"]
    where = f"source action {route.action} of pipeline {route.pipeline}"
    fix = f"correct the route in {CONFIG.name} and deploy to both accounts, or {path.fix_of_pipeline(route.pipeline)}"
    provider = "ECR" if route.is_image else "CodeCommit"
    need(
        (kind["category"], kind["provider"]) == ("Source", provider),
        f"{where} takes its source from {kind['provider']}, not from {provider}",
        fix,
    )
    region, expected = source.get("region", path.pipelines.region), path.repositories.region
    problem = f"{where} takes its source in {region}, but the repositories are in {expected}"
    need(region == expected, problem, fix)
    if route.is_image:
        _advise_on_tag(path, settings, where)
    _need_whole_source(settings, where, fix)
    repository, branch = settings.get("RepositoryName"), settings.get("BranchName")
    path.need_allowed(
        lambda: matches(route.repository, repository),
        f"{where} takes repository {repository}, and the route is of {route.repository}",
        fix,
    )
    # If only tags are routed, the branch does not matter, because the commit is pinned.
    if lists:
        path.need_allowed(
            lambda: any(includes(globs, branch) for globs in lists),
            f"{where} takes branch {branch}, and its routes are of {', '.join(glob for one in lists for glob in one)}",
            fix,
        )


def _advise_on_tag(path: DeliveryPath, settings: dict[str, str], where: str) -> None:
    """Advises to name a tag that never exists, so that an execution that no order started deploys nothing."""
    tag = settings.get("ImageTag", "latest")
    if tag != NO_TAG:
        path.advice.append(
            f"{where} has the tag {tag}. If somebody starts the pipeline by hand, it deploys that image, which may be "
            f"old. With a tag that never exists, such as {NO_TAG}, it deploys nothing"
        )


def _need_whole_source(settings: dict[str, str], where: str, fix: str) -> None:
    """Raises `Broken` unless the source action hands on the commit's files, and not a full clone."""
    # With a full clone, the build itself reads the repository, so the build's role would need codecommit:GitPull.
    # CodeCommit has no resource policies that could allow this to another account. Also, no artifact would be encrypted
    # under the artifact key.
    problem = f"{where} hands on a full clone (OutputArtifactFormat=CODEBUILD_CLONE_REF), which the build may not read"
    need(settings.get("OutputArtifactFormat", "CODE_ZIP") == "CODE_ZIP", problem, f"use CODE_ZIP: {fix}")


def _need_pins_in_order(path: DeliveryPath, pipeline: dict[str, Any], name: str, fix: str) -> None:
    """Raises `Broken` unless the pipeline accepts a pinned commit and runs one execution at a time."""
    upgrade = f"make upgrade-pipeline ENV={path.pipelines.target.name} PIPELINE={pipeline['name']}"
    kind, mode = pipeline.get("pipelineType", "V1"), pipeline.get("executionMode", "SUPERSEDED")
    need(kind == "V2", f"{name} is of type {kind} and takes no pinned commit", f"{upgrade} shows the change to V2")
    problem = f"{name} runs in mode {mode}, so an older change can overtake a newer one"
    need(mode != "PARALLEL", problem, f"set executionMode to QUEUED or SUPERSEDED: {fix}")


def _need_no_rule(path: DeliveryPath, name: str) -> None:
    """Raises `Broken` if an enabled rule starts the pipeline, because such a start has no pin."""
    account, events = path.pipelines, path.pipelines.client("events")
    arn = path.pipeline_arn(name)
    try:
        rules = [
            (bus["Name"], rule)
            for bus in _all(events.list_event_buses, "EventBuses")
            for rule in _all(events.list_rule_names_by_target, "RuleNames", TargetArn=arn, EventBusName=bus["Name"])
        ]
    except ClientError as error:
        path.unclear.append(f"whether another rule starts pipeline {name} ({error})")
        return
    for bus, rule in rules:
        try:
            state = events.describe_rule(Name=rule, EventBusName=bus)["State"]
        except ClientError as error:
            # The role for deployment may read only the stack's own rules, so another rule's state stays unclear.
            path.unclear.append(f"whether rule {rule} (bus {bus}) starts pipeline {name} as well ({error})")
            continue
        fix = account.administrator(f"events disable-rule --name {rule} --event-bus-name {bus}")
        problem = f"rule {rule} (bus {bus}) starts pipeline {name} as well, without a pin"
        # An enabled rule has one of two states, so the code compares with the only state of a disabled rule.
        need(state == "DISABLED", problem, fix)


def _all(operation: Callable[..., Any], key: str, **request: str) -> Iterator[Any]:
    """The items of all pages of a list. boto3 has no paginator for these operations of EventBridge."""
    token: dict[str, str] = {}
    while True:
        page = operation(**request, **token)
        yield from page[key]
        if not page.get("NextToken"):
            return
        token = {"NextToken": page["NextToken"]}


def pipelines_are_correct(path: DeliveryPath) -> None:
    """Checks each routed pipeline's type, roles, triggers and artifact store."""
    for route in path.routes:
        (pipeline, source), name = path.source_action(route), f"pipeline {route.pipeline}"
        fix = path.fix_of_pipeline(route.pipeline)
        _need_pins_in_order(path, pipeline, name, fix)
        role = source.get("roleArn")
        need(
            role == path.source_role,
            f"the source action of {route.pipeline} takes {role}, not {path.source_role}",
            fix,
        )
        polls = source["configuration"].get("PollForSourceChanges")
        # The source action of ECR never polls.
        need(route.is_image or polls == "false", f"{name} polls and would run twice", fix)
        need(not pipeline.get("triggers"), f"{name} has a trigger of its own and would run twice", fix)
        _need_no_rule(path, route.pipeline)
        store = artifact_store(pipeline, path.pipelines.region)
        location = store.get("location")
        need(location == path.bucket, f"{name} keeps artifacts in {location}, not in {path.bucket}", fix)
        key = store.get("encryptionKey", {}).get("id")
        need(key == path.key, f"{name} does not name the key by its full ARN {path.key}", fix)
        trusted = path.pipeline_role
        need(pipeline["roleArn"] == trusted, f"{name} does not have the role {trusted}, which is trusted", fix)


def artifact_store(pipeline: dict[str, Any], region: str) -> dict[str, Any]:
    """The artifact store in the pipeline's region. A pipeline with actions in several regions has a store in each."""
    store: dict[str, Any] = pipeline.get("artifactStore") or pipeline.get("artifactStores", {}).get(region, {})
    return store


def builds_use_key(path: DeliveryPath) -> None:
    """Checks the CodeBuild projects of each routed pipeline. A project does not use the pipeline's key by itself."""
    for route in path.routes:
        pipeline, _ = path.source_action(route)
        for stage in pipeline["stages"]:
            for action in stage["actions"]:
                if action["actionTypeId"]["provider"] == "CodeBuild" and action.get("outputArtifacts"):
                    _need_key_of_build(path, action, route.pipeline)


def _need_key_of_build(path: DeliveryPath, action: dict[str, Any], pipeline: str) -> None:
    account, name = path.pipelines, action.get("configuration", {}).get("ProjectName", "")
    where = f"action {action['name']} of pipeline {pipeline}"
    if action.get("region", account.region) != account.region:
        path.unclear.append(f"whether {where} uses the artifact key: project {name} is in {action['region']}")
        return
    try:
        found = account.client("codebuild").batch_get_projects(names=[name])["projects"]
    except ClientError as error:
        path.unclear.append(f"whether {where} uses the artifact key ({error})")
        return
    need(bool(found), f"{where} names project {name}, which does not exist", path.fix_of_pipeline(pipeline))
    key = found[0].get("encryptionKey")
    fix = account.administrator(f"codebuild update-project --name {name} --encryption-key {path.key}")
    need(key == path.key, f"CodeBuild project {name} of {where} encrypts under {key}, not under {path.key}", fix)
