"""CodePipeline: real pipelines, of which three kinds of action run.

- Source/CodeCommit: takes the action's role *through* the pipeline's, archives the pinned commit (unpinned: the
  branch's head when it runs, as on AWS) and puts it into the artifact bucket under the artifact store's key.
- Deploy/CloudFormation: reads the artifact and makes or changes a stack, or does both by a change set.
- Approval/Manual: asks the topic, and waits.

Everything towards another service goes over the endpoint with the role's session, so IAM, bucket and key policies
decide. Any other provider fails its action and says so. A pipeline runs one execution at a time, except in PARALLEL.
"""

import io
import itertools
import json
import re
import secrets
import threading
import time
import traceback
import uuid
import zipfile

from botocore.exceptions import ClientError
from ministack.core import iam_evaluator
from ministack.core.responses import AccountRegionScopedDict, get_account_id, get_region, request_scope
from ministack.services.cloudformation import provisioners

from local_cloud import buses, codecommit, iam
from local_cloud.services import Refused, client, register

NAME = re.compile(r"[A-Za-z0-9.@_-]{1,100}")
TOKEN = re.compile(r"[a-zA-Z0-9-]{1,128}")
PAGE = 100
POLL_SECONDS = 0.1
ENDED = ("Succeeded", "Failed", "Stopped", "Superseded", "Cancelled")

_pipelines = AccountRegionScopedDict()
_faults: list[dict] = []
# One lock for all there is; whoever changes an execution notifies whoever waits for one.
_changed = threading.Condition(threading.RLock())


def install() -> None:
    register(
        "codepipeline",
        "CodePipeline_20150709",
        {
            "CreatePipeline": _create_pipeline,
            "UpdatePipeline": _update_pipeline,
            "GetPipeline": _get_pipeline,
            "ListPipelines": _list_pipelines,
            "DeletePipeline": _delete_pipeline,
            "StartPipelineExecution": _start_pipeline_execution,
            "StopPipelineExecution": _stop_pipeline_execution,
            "GetPipelineExecution": _get_pipeline_execution,
            "ListPipelineExecutions": _list_pipeline_executions,
            "ListActionExecutions": _list_action_executions,
            "GetPipelineState": _get_pipeline_state,
            "PutApprovalResult": _put_approval_result,
        },
        _resource_arn,
    )
    provisioners._RESOURCE_HANDLERS["AWS::CodePipeline::Pipeline"] = {
        "create": _create_in_template,
        "update": _update_in_template,
        "delete": _delete_in_template,
    }


def _resource_arn(request: dict, region: str, account: str) -> str:
    name = request.get("pipelineName") or request.get("name") or (request.get("pipeline") or {}).get("name")
    arn = f"arn:aws:codepipeline:{region}:{account}:{name or '*'}"
    return f"{arn}/{request['stageName']}/{request['actionName']}" if "actionName" in request else arn


# Faults, for tests


def _break(_: str, body: bytes) -> tuple[int, str]:
    """The next `count` StartPipelineExecution calls of `account` (and `pipeline`) take `delay` seconds more and fail
    with `error`, before they start anything or, with `after`, once they have: then only the answer is lost."""
    fault = {"pipeline": None, "count": 1, "error": None, "delay": 0, "after": False} | json.loads(body)
    if unknown := set(fault) - {"account", "pipeline", "count", "error", "delay", "after"}:
        raise ValueError(f"a fault has no {', '.join(sorted(unknown))}")
    fault["account"], fault["count"], fault["delay"] = str(fault["account"]), int(fault["count"]), float(fault["delay"])
    with _changed:
        _faults.append(fault)
    return 200, "so be it\n"


PATHS = {"faults": _break}


def _fault(name: str) -> dict:
    with _changed:
        for fault in _faults:
            if fault["account"] == get_account_id() and fault["pipeline"] in (None, name) and fault["count"] > 0:
                fault["count"] -= 1
                return fault
    return {"error": None, "delay": 0, "after": False}


# Pipelines


def _create_pipeline(request: dict) -> dict:
    structure = _checked(request.get("pipeline"))
    if structure["name"] in _pipelines:
        raise Refused("PipelineNameInUseException", f"A pipeline with the name '{structure['name']}' already exists")
    now = time.time()
    _pipelines[structure["name"]] = {
        "structure": structure | {"version": 1},
        "created": now,
        "updated": now,
        "executions": [],
        "tokens": {},
    }
    return {"pipeline": structure | {"version": 1}, "tags": request.get("tags", [])}


def _update_pipeline(request: dict) -> dict:
    structure = _checked(request.get("pipeline"))
    pipeline = _pipeline(structure["name"])
    pipeline["structure"] = structure | {"version": pipeline["structure"]["version"] + 1}
    pipeline["updated"] = time.time()
    return {"pipeline": pipeline["structure"]}


def _get_pipeline(request: dict) -> dict:
    pipeline = _pipeline(request.get("name"))
    if request.get("version") not in (None, pipeline["structure"]["version"]):
        raise Refused("PipelineVersionNotFoundException", "the local cloud keeps a pipeline's last version only")
    return {
        "pipeline": pipeline["structure"],
        "metadata": {
            "pipelineArn": _arn(request["name"]),
            "created": pipeline["created"],
            "updated": pipeline["updated"],
        },
    }


def _list_pipelines(request: dict) -> dict:
    return _page(
        [
            {
                "created": one["created"],
                "updated": one["updated"],
                **{key: one["structure"][key] for key in ("name", "version", "pipelineType", "executionMode")},
            }
            for _, one in sorted(_pipelines.items())
        ],
        "pipelines",
        request,
    )


def _delete_pipeline(request: dict) -> dict:
    _pipelines.pop(request.get("name"), None)
    return {}


def _checked(structure: dict | None) -> dict:
    """The structure with what CodePipeline fills in, if it would take it."""
    structure = {"pipelineType": "V1", "executionMode": "SUPERSEDED"} | (structure or {})
    structure.pop("version", None)
    stages = structure.get("stages") or []
    if not NAME.fullmatch(structure.get("name") or ""):
        raise Refused("ValidationException", "A pipeline's name has 1 to 100 of [A-Za-z0-9.@_-]")
    if not structure.get("roleArn") or not structure.get("artifactStore", {}).get("location"):
        raise Refused("ValidationException", "A pipeline needs roleArn and artifactStore")
    if len(stages) < 2:
        raise Refused(
            "InvalidStructureException",
            f"Pipeline has only {len(stages)} stage(s). There should be a minimum of 2 stages in a pipeline",
        )
    for number, stage in enumerate(stages):
        for action in stage.get("actions") or [{}]:
            if (action.get("actionTypeId", {}).get("category") == "Source") != (number == 0):
                raise Refused(
                    "InvalidStructureException",
                    f"Stage {stage.get('name')} and its actions do not match: "
                    "the first stage has source actions only, and no other stage has any",
                )
    return structure


# Executions


def _start_pipeline_execution(request: dict) -> dict:
    name, token = request.get("name"), request.get("clientRequestToken")
    fault = _fault(name)
    time.sleep(fault["delay"])
    if fault["error"] and not fault["after"]:
        raise Refused(fault["error"], "told to fail by the test")
    pipeline = _pipeline(name)
    structure = pipeline["structure"]
    if token is not None and not TOKEN.fullmatch(token):
        raise Refused("ValidationException", "clientRequestToken has 1 to 128 of [a-zA-Z0-9-]")
    pins = {pin["actionName"]: pin for pin in request.get("sourceRevisions", [])}
    sources = {action["name"] for action in structure["stages"][0]["actions"]}
    if unknown := set(pins) - sources:
        raise Refused("ValidationException", f"{name} has no source action {', '.join(sorted(unknown))}")
    if any(pin["revisionType"] != "COMMIT_ID" for pin in pins.values()):
        raise Refused("ValidationException", "the local cloud pins COMMIT_ID only")
    with _changed:
        if token in pipeline["tokens"]:
            return {"pipelineExecutionId": pipeline["tokens"][token]}
        execution = {
            "id": str(uuid.uuid4()),
            "account": get_account_id(),
            "region": get_region(),
            "structure": structure,
            "status": "InProgress",
            "start": time.time(),
            "update": time.time(),
            "pins": pins,
            "stop": None,
            "revisions": {action: {"name": action, "revisionId": pin["revisionValue"]} for action, pin in pins.items()},
            "trigger": {"triggerType": "StartPipelineExecution", "triggerDetail": iam_evaluator.caller_arn()},
            "actions": [],
            "artifacts": {},
            "variables": {},
        }
        if token is not None:
            pipeline["tokens"][token] = execution["id"]
        pipeline["executions"].append(execution)
        threading.Thread(target=_run, args=(pipeline, execution), daemon=True, name=f"pipeline-{name}").start()
    if fault["error"]:
        raise Refused(fault["error"], "told to fail by the test, though it has started")
    return {"pipelineExecutionId": execution["id"]}


def _stop_pipeline_execution(request: dict) -> dict:
    execution = _execution(request)
    with _changed:
        if execution["status"] in ENDED:
            raise Refused("PipelineExecutionNotStoppableException", f"Execution {execution['id']} has ended")
        execution["stop"] = request.get("reason", "")
        execution["status"] = "Stopping"
        _changed.notify_all()
    return {"pipelineExecutionId": execution["id"]}


def _get_pipeline_execution(request: dict) -> dict:
    execution = _execution(request)
    answer = {
        "pipelineName": request["pipelineName"],
        "pipelineVersion": execution["structure"]["version"],
        "pipelineExecutionId": execution["id"],
        "status": execution["status"],
        "artifactRevisions": list(execution["revisions"].values()),
        "trigger": execution["trigger"],
        "executionMode": execution["structure"]["executionMode"],
        "executionType": "STANDARD",
    }
    return {"pipelineExecution": answer | ({"statusSummary": execution["stop"]} if execution["stop"] else {})}


def _list_pipeline_executions(request: dict) -> dict:
    return _page(
        [
            {
                "pipelineExecutionId": one["id"],
                "status": one["status"],
                "startTime": one["start"],
                "lastUpdateTime": one["update"],
                "trigger": one["trigger"],
                "executionType": "STANDARD",
                "executionMode": one["structure"]["executionMode"],
                "sourceRevisions": [
                    {"actionName": action} | {key: value for key, value in revision.items() if key != "name"}
                    for action, revision in one["revisions"].items()
                ],
            }
            for one in reversed(_pipeline(request.get("pipelineName"))["executions"])
        ],
        "pipelineExecutionSummaries",
        request,
    )


def _list_action_executions(request: dict) -> dict:
    wanted = (request.get("filter") or {}).get("pipelineExecutionId")
    executions = _pipeline(request.get("pipelineName"))["executions"]
    return _page(
        [
            {key: value for key, value in action.items() if key != "token"}
            for one in reversed(executions)
            if wanted in (None, one["id"])
            for action in reversed(one["actions"])
        ],
        "actionExecutionDetails",
        request,
    )


def _get_pipeline_state(request: dict) -> dict:
    pipeline = _pipeline(request.get("name"))
    latest = {
        (action["stageName"], action["actionName"]): action
        for one in pipeline["executions"]
        for action in one["actions"]
    }
    stages = []
    for stage in pipeline["structure"]["stages"]:
        actions = []
        for action in stage["actions"]:
            state, ran = {"actionName": action["name"]}, latest.get((stage["name"], action["name"]))
            if ran:
                result = ran["output"].get("executionResult", {})
                state["latestExecution"] = {
                    "actionExecutionId": ran["actionExecutionId"],
                    "status": ran["status"],
                    "lastStatusChange": ran["lastUpdateTime"],
                    "summary": result.get("externalExecutionSummary", ""),
                    **({"errorDetails": result["errorDetails"]} if "errorDetails" in result else {}),
                    **({"token": ran["token"]} if ran.get("token") and ran["status"] == "InProgress" else {}),
                }
            actions.append(state)
        ran = [latest[key] for key in latest if key[0] == stage["name"]]
        stages.append({"stageName": stage["name"], "actionStates": actions})
        if ran:
            last = max(ran, key=lambda action: action["startTime"])
            of_last = [
                action["status"] for action in ran if action["pipelineExecutionId"] == last["pipelineExecutionId"]
            ]
            status = next((one for one in ("Failed", "InProgress") if one in of_last), "Succeeded")
            stages[-1]["latestExecution"] = {"pipelineExecutionId": last["pipelineExecutionId"], "status": status}
    return {
        "pipelineName": request["name"],
        "pipelineVersion": pipeline["structure"]["version"],
        "stageStates": stages,
        "created": pipeline["created"],
        "updated": pipeline["updated"],
    }


def _put_approval_result(request: dict) -> dict:
    with _changed:
        for one in _pipeline(request.get("pipelineName"))["executions"]:
            for action in one["actions"]:
                if action.get("token") and action["token"] == request.get("token"):
                    if action["status"] != "InProgress":
                        raise Refused("ApprovalAlreadyCompletedException", "The approval has been completed")
                    action["approval"] = request["result"]
                    _changed.notify_all()
                    return {"approvedAt": time.time()}
    raise Refused("InvalidApprovalTokenException", "The approval token is not valid")


def _pipeline(name: str | None) -> dict:
    pipeline = _pipelines.get(name)
    if pipeline is None:
        raise Refused(
            "PipelineNotFoundException",
            f"The account with id '{get_account_id()}' does not include a pipeline with the name '{name}'",
        )
    return pipeline


def _execution(request: dict) -> dict:
    for one in _pipeline(request.get("pipelineName"))["executions"]:
        if one["id"] == request.get("pipelineExecutionId"):
            return one
    raise Refused("PipelineExecutionNotFoundException", f"No execution {request.get('pipelineExecutionId')}")


# Running


class Failed(Exception):
    """An action that failed, by CodePipeline's code for it."""

    def __init__(self, code: str, message: str):
        super().__init__(message)
        self.code = code


class Stopped(Exception):
    """Somebody stopped the execution."""


def _run(pipeline: dict, execution: dict) -> None:
    with request_scope(execution["account"], execution["region"]):
        if not _turn(pipeline, execution):
            return
        _tell(execution, "Pipeline", "STARTED")
        try:
            for stage in execution["structure"]["stages"]:
                _tell(execution, "Stage", "STARTED", stage=stage["name"])
                for action in sorted(stage["actions"], key=lambda one: one.get("runOrder", 1)):
                    _run_action(execution, stage, action)
                _tell(execution, "Stage", "SUCCEEDED", stage=stage["name"])
            _end(execution, "Succeeded")
        except Failed:
            _tell(execution, "Stage", "FAILED", stage=stage["name"])
            _end(execution, "Failed")
        except Stopped:
            _end(execution, "Stopped")


def _turn(pipeline: dict, execution: dict) -> bool:
    """Waits until the executions before this one have ended; False where a newer one or a stop came first."""
    mode = execution["structure"]["executionMode"]
    with _changed:
        while mode != "PARALLEL":
            place = pipeline["executions"].index(execution)
            if all(one["status"] in ENDED for one in pipeline["executions"][:place]):
                break
            if mode == "SUPERSEDED" and len(pipeline["executions"]) > place + 1:
                _end(execution, "Superseded")
                return False
            if execution["stop"] is not None:
                _end(execution, "Stopped")
                return False
            _changed.notify_all()
            _changed.wait(1)
    return True


def _end(execution: dict, status: str) -> None:
    with _changed:
        execution.update(status=status, update=time.time())
        _changed.notify_all()
    _tell(execution, "Pipeline", status.upper())


def _run_action(execution: dict, stage: dict, action: dict) -> None:
    if execution["stop"] is not None:
        raise Stopped
    kind = action["actionTypeId"]
    run = ACTIONS.get((kind["category"], kind["provider"]))
    detail = {
        "pipelineExecutionId": execution["id"],
        "actionExecutionId": str(uuid.uuid4()),
        "pipelineVersion": execution["structure"]["version"],
        "stageName": stage["name"],
        "actionName": action["name"],
        "startTime": time.time(),
        "lastUpdateTime": time.time(),
        "status": "InProgress",
        "input": {
            "actionTypeId": kind,
            "configuration": action.get("configuration", {}),
            "region": action.get("region", execution["region"]),
            "inputArtifacts": [
                {"name": one["name"], "s3location": execution["artifacts"].get(one["name"], {})}
                for one in action.get("inputArtifacts", [])
            ],
        },
        "output": {"outputArtifacts": [], "outputVariables": {}},
    }
    if action.get("roleArn"):
        detail["input"]["roleArn"] = action["roleArn"]
    execution["actions"].append(detail)
    _tell(execution, "Action", "STARTED", detail)
    try:
        if run is None:
            raise Failed("ConfigurationError", f"The local cloud does not run {kind['category']} by {kind['provider']}")
        configuration = _with_variables(execution, action.get("configuration", {}))
        detail["input"]["resolvedConfiguration"] = configuration
        summary = run(execution, action, configuration, detail)
        result, status = {"externalExecutionSummary": summary}, "Succeeded"
    except Stopped:
        detail.update(status="Abandoned", lastUpdateTime=time.time())
        raise
    except Exception as error:  # Whatever it was, the execution must end, and say why.
        if isinstance(error, ClientError):
            error = Failed(
                "PermissionError" if "AccessDenied" in error.response["Error"]["Code"] else "JobFailed", str(error)
            )
        elif not isinstance(error, Failed):
            traceback.print_exc()
            error = Failed("InternalError", f"{type(error).__name__}: {error}")
        result, status = (
            {"externalExecutionSummary": str(error), "errorDetails": {"code": error.code, "message": str(error)}},
            "Failed",
        )
    detail["output"]["executionResult"] = result
    with _changed:
        detail.update(status=status, lastUpdateTime=time.time())
    _tell(execution, "Action", status.upper(), detail)
    if status == "Failed":
        raise Failed(result["errorDetails"]["code"], str(result["externalExecutionSummary"]))


def _with_variables(execution: dict, configuration: dict) -> dict:
    return {
        key: re.sub(
            r"#\{([\w@-]+)\.([\w@-]+)\}",
            lambda found: execution["variables"].get(found[1], {}).get(found[2], found[0]),
            value,
        )
        for key, value in configuration.items()
    }


def _session(execution: dict, action: dict) -> tuple[dict, str]:
    """The credentials an action works with, and its role: the action's own role is taken by the pipeline's."""
    role = execution["structure"]["roleArn"]
    try:
        credentials = iam.service_session(
            role,
            "codepipeline.amazonaws.com",
            _arn(execution["structure"]["name"]),
            execution["account"],
            execution["id"],
        )
    except PermissionError as error:
        raise Failed("PermissionError", str(error)) from None
    if action.get("roleArn"):
        role = action["roleArn"]
        given = client("sts", execution["region"], credentials).assume_role(
            RoleArn=role, RoleSessionName=execution["id"]
        )["Credentials"]
        credentials = {
            "aws_access_key_id": given["AccessKeyId"],
            "aws_secret_access_key": given["SecretAccessKey"],
            "aws_session_token": given["SessionToken"],
        }
    return credentials, role


def _must_be_allowed(credentials: dict, role: str, region: str, action: str, resource: str, **context) -> None:
    """Asks IAM about a permission whose API no SDK has, or that is not an API."""
    with request_scope(role.split(":")[4], region):
        denied = iam_evaluator.enforce(
            credentials["aws_access_key_id"], action, action.split(":", maxsplit=1)[0], region, resource, context
        )
    if denied is not None:
        raise Failed("PermissionError", f"{role} is not authorized to perform: {action} on resource: {resource}")


def _source(execution: dict, action: dict, configuration: dict, detail: dict) -> str:
    credentials, role = _session(execution, action)
    account, region = role.split(":")[4], detail["input"]["region"]
    name, branch = configuration["RepositoryName"], configuration["BranchName"]
    repositories = client("codecommit", region, credentials)
    pin = execution["pins"].get(action["name"])
    commit = (
        pin["revisionValue"]
        if pin
        else repositories.get_branch(repositoryName=name, branchName=branch)["branch"]["commitId"]
    )
    about = repositories.get_commit(repositoryName=name, commitId=commit)["commit"]
    _must_be_allowed(
        credentials, role, region, "codecommit:UploadArchive", f"arn:aws:codecommit:{region}:{account}:{name}"
    )
    message = about["message"].strip()
    execution["revisions"][action["name"]] = {"name": action["name"], "revisionId": commit, "revisionSummary": message}
    for artifact in action.get("outputArtifacts", []):
        detail["output"]["outputArtifacts"].append(
            _put_artifact(execution, artifact["name"], codecommit.archive(name, commit), credentials)
        )
    detail["output"]["outputVariables"] = {
        "RepositoryName": name,
        "BranchName": branch,
        "CommitId": commit,
        "CommitMessage": message,
        "AuthorDate": about["author"]["date"],
        "CommitterDate": about["committer"]["date"],
    }
    execution["variables"][action.get("namespace", "")] = detail["output"]["outputVariables"]
    return message


def _put_artifact(execution: dict, artifact: str, content: bytes, credentials: dict) -> dict:
    store = execution["structure"]["artifactStore"]
    key = f"{execution['structure']['name'][:20]}/{artifact[:10]}/{secrets.token_urlsafe(8)[:7]}"
    encryption = {"ServerSideEncryption": "aws:kms"}
    if "encryptionKey" in store:
        encryption["SSEKMSKeyId"] = store["encryptionKey"]["id"]
    client("s3", execution["region"], credentials).put_object(
        Bucket=store["location"], Key=key, Body=content, ContentType="application/zip", **encryption
    )
    execution["artifacts"][artifact] = {"bucket": store["location"], "key": key}
    return {"name": artifact, "s3location": execution["artifacts"][artifact]}


def _deploy(execution: dict, action: dict, configuration: dict, detail: dict) -> str:
    credentials, role = _session(execution, action)
    region, stack, mode = detail["input"]["region"], configuration["StackName"], configuration["ActionMode"]
    cloudformation = client("cloudformation", region, credentials)
    if mode == "CHANGE_SET_EXECUTE":
        change = cloudformation.describe_change_set(StackName=stack, ChangeSetName=configuration["ChangeSetName"])
        if _changes_nothing(change):
            return "Nothing to change"
        cloudformation.execute_change_set(StackName=stack, ChangeSetName=configuration["ChangeSetName"])
        return _settled(cloudformation, stack)
    if mode not in ("CREATE_UPDATE", "CHANGE_SET_REPLACE"):
        raise Failed("ConfigurationError", f"The local cloud does not know ActionMode {mode}")
    request = {
        "StackName": stack,
        "TemplateBody": _file(execution, configuration["TemplatePath"], credentials),
        "Capabilities": [one for one in configuration.get("Capabilities", "").split(",") if one],
        "Parameters": [
            {"ParameterKey": key, "ParameterValue": value}
            for key, value in json.loads(configuration.get("ParameterOverrides") or "{}").items()
        ],
    }
    if configuration.get("RoleArn"):
        _must_be_allowed(
            credentials,
            role,
            region,
            "iam:PassRole",
            configuration["RoleArn"],
            **{"iam:PassedToService": "cloudformation.amazonaws.com"},
        )
        request["RoleARN"] = configuration["RoleArn"]
    exists = _status(cloudformation, stack) not in (None, "REVIEW_IN_PROGRESS")
    if mode == "CHANGE_SET_REPLACE":
        name = configuration["ChangeSetName"]
        if exists:
            cloudformation.delete_change_set(StackName=stack, ChangeSetName=name)
        cloudformation.create_change_set(ChangeSetName=name, ChangeSetType="UPDATE" if exists else "CREATE", **request)
        while True:
            change = cloudformation.describe_change_set(StackName=stack, ChangeSetName=name)
            if change["Status"] == "CREATE_COMPLETE":
                return f"Change set {name} was created."
            if _changes_nothing(change):
                return "Nothing to change"
            if change["Status"] == "FAILED":
                raise Failed("JobFailed", f"Change set {name} failed: {change.get('StatusReason')}")
            time.sleep(POLL_SECONDS)
    try:
        (cloudformation.update_stack if exists else cloudformation.create_stack)(**request)
    except ClientError as error:
        if "No updates are to be performed" not in str(error):
            raise
        return "Nothing to change"
    return _settled(cloudformation, stack)


def _changes_nothing(change: dict) -> bool:
    reason = change.get("StatusReason") or ""
    return change["Status"] == "FAILED" and ("didn't contain changes" in reason or "No updates" in reason)


def _file(execution: dict, path: str, credentials: dict) -> str:
    artifact, _, name = path.partition("::")
    place = execution["artifacts"][artifact]
    content = (
        client("s3", execution["region"], credentials)
        .get_object(Bucket=place["bucket"], Key=place["key"])["Body"]
        .read()
    )
    try:
        return zipfile.ZipFile(io.BytesIO(content)).read(name).decode()
    except KeyError:
        raise Failed("ConfigurationError", f"Artifact {artifact} has no file {name}") from None


def _status(cloudformation, stack: str) -> str | None:
    try:
        return cloudformation.describe_stacks(StackName=stack)["Stacks"][0]["StackStatus"]
    except ClientError as error:
        if "does not exist" in str(error):
            return None
        raise


def _settled(cloudformation, stack: str) -> str:
    while (status := _status(cloudformation, stack)).endswith("IN_PROGRESS"):
        time.sleep(POLL_SECONDS)
    if status not in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
        raise Failed("JobFailed", f"Stack {stack} ended as {status}")
    return f"Stack {stack} ended as {status}"


def _approve(execution: dict, action: dict, configuration: dict, detail: dict) -> str:
    detail["token"] = str(uuid.uuid4())
    if configuration.get("NotificationArn"):
        credentials, _ = _session(execution, action)
        client("sns", execution["region"], credentials).publish(
            TopicArn=configuration["NotificationArn"],
            Subject=f"APPROVAL NEEDED: AWS CodePipeline {execution['structure']['name']}"[:100],
            Message=json.dumps(
                {
                    "region": execution["region"],
                    "approval": {
                        "pipelineName": execution["structure"]["name"],
                        "stageName": detail["stageName"],
                        "actionName": action["name"],
                        "token": detail["token"],
                        "externalEntityLink": configuration.get("ExternalEntityLink"),
                        "customData": configuration.get("CustomData"),
                    },
                }
            ),
        )
    with _changed:
        while "approval" not in detail:
            if execution["stop"] is not None:
                raise Stopped
            _changed.wait(1)
    if detail["approval"]["status"] != "Approved":
        raise Failed("JobFailed", f"Rejected: {detail['approval'].get('summary', '')}")
    return detail["approval"].get("summary", "")


ACTIONS = {("Source", "CodeCommit"): _source, ("Deploy", "CloudFormation"): _deploy, ("Approval", "Manual"): _approve}


def _tell(execution: dict, what: str, state: str, action: dict | None = None, **more) -> None:
    structure = execution["structure"]
    began = time.gmtime(action["startTime"] if action else execution["start"])
    detail = {
        "pipeline": structure["name"],
        "execution-id": execution["id"],
        "state": state,
        "version": float(structure["version"]),
        "pipeline-execution-attempt": 1.0,
        "start-time": time.strftime("%Y-%m-%dT%H:%M:%S.000Z", began),
        **more,
    }
    if what == "Pipeline":
        detail["execution-trigger"] = {
            "trigger-type": execution["trigger"]["triggerType"],
            "trigger-detail": execution["trigger"]["triggerDetail"],
        }
    if action:
        kind, result = action["input"]["actionTypeId"], action["output"].get("executionResult")
        detail |= {
            "stage": action["stageName"],
            "action": action["actionName"],
            "region": action["input"]["region"],
            "action-execution-id": action["actionExecutionId"],
            "type": {key: kind[key] for key in ("owner", "provider", "category", "version")},
            "input-artifacts": action["input"]["inputArtifacts"],
            "output-artifacts": action["output"]["outputArtifacts"],
        }
        if result:
            detail["execution-result"] = {
                "external-execution-summary": result["externalExecutionSummary"],
                "external-execution-state": state,
                **({"error-code": result["errorDetails"]["code"]} if "errorDetails" in result else {}),
            }
    buses.emit(
        execution["account"],
        execution["region"],
        "aws.codepipeline",
        f"CodePipeline {what} Execution State Change",
        detail,
        [_arn(structure["name"])],
    )


# In a template


def _from_template(value, free: bool = False):
    """A template's properties as the API spells them, `artifactStore` for `ArtifactStore`; a configuration's stay."""
    if isinstance(value, list):
        return [_from_template(one) for one in value]
    if not isinstance(value, dict):
        return value
    return {
        key if free else key[0].lower() + key[1:]: _from_template(one, free=key == "Configuration")
        for key, one in value.items()
    }


def _structure(properties: dict, name: str) -> dict:
    structure = _from_template(
        {key: value for key, value in properties.items() if key not in ("Tags", "RestartExecutionOnUpdate")}
    ) | {"name": name}
    for action in itertools.chain.from_iterable(stage["actions"] for stage in structure["stages"]):
        if "runOrder" in action:
            action["runOrder"] = int(action["runOrder"])
    return structure


def _create_in_template(logical_id: str, properties: dict, stack: str):
    name = properties.get("Name") or provisioners._physical_name(stack, logical_id, max_len=100)
    return _in_template(_create_pipeline, properties, name)


def _update_in_template(name: str, _old: dict, properties: dict, _stack: str):
    if properties.get("Name", name) != name:
        raise ValueError("AWS::CodePipeline::Pipeline: the local cloud does not replace a pipeline by a renamed one")
    return _in_template(_update_pipeline, properties, name)


def _in_template(operation, properties: dict, name: str):
    try:
        made = operation({"pipeline": _structure(properties, name)})["pipeline"]
    except Refused as error:
        raise ValueError(f"AWS::CodePipeline::Pipeline {name}: {error.code}: {error}") from None
    return name, {"Version": str(made["version"])}


def _delete_in_template(name: str, _properties: dict) -> None:
    _delete_pipeline({"name": name})


# What they share


def _arn(name: str) -> str:
    return f"arn:aws:codepipeline:{get_region()}:{get_account_id()}:{name}"


def _page(items: list, key: str, request: dict) -> dict:
    token, size = request.get("nextToken"), request.get("maxResults") or PAGE
    if token is not None and not token.isdecimal():
        raise Refused("InvalidNextTokenException", "The next token is not valid")
    start = int(token or 0)
    more = {"nextToken": str(start + size)} if start + size < len(items) else {}
    return {key: items[start : start + size]} | more
