"""The operations of CodePipeline's API."""

import re
import threading
import time
import uuid

from ministack.core import iam_evaluator
from ministack.core.responses import get_account_id, get_region

from local_cloud.codepipeline import roles, runs, templates
from local_cloud.codepipeline.sources import REVISION_TYPES
from local_cloud.codepipeline.state import (
    ENDED,
    changed,
    existing_execution,
    existing_pipeline,
    next_fault,
    pipeline_arn,
    pipelines,
    shown_revisions,
)
from local_cloud.services import Json, Refused, page, register

PAGE = 100
NAME = re.compile(r"[A-Za-z0-9.@_-]{1,100}")
TOKEN = re.compile(r"[a-zA-Z0-9-]{1,128}")


def install() -> None:
    """Adds CodePipeline's API and its CloudFormation resource type."""
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
            "RetryStageExecution": _retry_stage_execution,
            "GetPipelineExecution": _get_pipeline_execution,
            "ListPipelineExecutions": _list_pipeline_executions,
            "ListActionExecutions": _list_action_executions,
            "GetPipelineState": _get_pipeline_state,
            "PutApprovalResult": _put_approval_result,
        },
        _resource_arn,
    )
    templates.install(_create_pipeline, _update_pipeline, _delete_pipeline)


def _resource_arn(request: Json, region: str, account: str) -> str:
    name = request.get("pipelineName") or request.get("name") or (request.get("pipeline") or {}).get("name")
    arn = f"arn:aws:codepipeline:{region}:{account}:{name or '*'}"
    return "/".join([arn, *(request[key] for key in ("stageName", "actionName") if key in request)])


def _create_pipeline(request: Json) -> Json:
    structure = _checked(request.get("pipeline"))
    if structure["name"] in pipelines:
        raise Refused("PipelineNameInUseException", f"A pipeline with the name '{structure['name']}' already exists")
    now = time.time()
    pipelines[structure["name"]] = {
        "structure": structure | {"version": 1},
        "created": now,
        "updated": now,
        "executions": [],
        "tokens": {},
    }
    return {"pipeline": structure | {"version": 1}, "tags": request.get("tags", [])}


def _update_pipeline(request: Json) -> Json:
    """Updates the pipeline. As on AWS, this cancels the executions that have not ended."""
    structure = _checked(request.get("pipeline"))
    pipeline = existing_pipeline(structure["name"])
    # The newest comes first, so that no execution that waits gets its turn in between.
    for execution in reversed(pipeline["executions"]):
        runs.end(execution, "Cancelled")
    pipeline["structure"] = structure | {"version": pipeline["structure"]["version"] + 1}
    pipeline["updated"] = time.time()
    return {"pipeline": pipeline["structure"]}


def _get_pipeline(request: Json) -> Json:
    pipeline = existing_pipeline(request.get("name"))
    if request.get("version") not in (None, pipeline["structure"]["version"]):
        raise Refused("PipelineVersionNotFoundException", "the local cloud keeps only the last version of a pipeline")
    return {
        "pipeline": pipeline["structure"],
        "metadata": {
            "pipelineArn": pipeline_arn(request["name"]),
            "created": pipeline["created"],
            "updated": pipeline["updated"],
        },
    }


def _list_pipelines(request: Json) -> Json:
    return _page(
        [
            {
                "created": one["created"],
                "updated": one["updated"],
                **{key: one["structure"][key] for key in ("name", "version", "pipelineType", "executionMode")},
            }
            for _, one in sorted(pipelines.items())
        ],
        "pipelines",
        request,
    )


def _page(items: list[Json], key: str, request: Json) -> Json:
    return page(items, key, request, "InvalidNextTokenException", size=PAGE, names=("nextToken", "maxResults"))


def _delete_pipeline(request: Json) -> Json:
    pipelines.pop(request.get("name"), None)
    return {}


def _checked(structure: Json | None) -> Json:
    """Adds CodePipeline's defaults to the structure; raises `Refused` if CodePipeline would refuse the structure."""
    structure = _with_type({"executionMode": "SUPERSEDED"} | (structure or {}))
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
    roles.check(structure)
    return structure


def _with_type(structure: Json) -> Json:
    """Adds the pipeline's type if the structure has none: V2 if the structure uses a feature of V2 only, else V1."""
    only_v2 = [name for name in ("triggers", "variables") if structure.get(name)]
    if structure["executionMode"] != "SUPERSEDED":
        only_v2.append("executionMode")
    structure = {"pipelineType": "V2" if only_v2 else "V1"} | structure
    if structure["pipelineType"] == "V1" and only_v2:
        raise Refused("InvalidStructureException", f"{', '.join(only_v2)} can only be used with V2 pipelines")
    return structure


def _start_pipeline_execution(request: Json) -> Json:
    name, token = request.get("name"), request.get("clientRequestToken")
    fault = next_fault(name)
    time.sleep(fault["delay"])
    if fault["error"] and not fault["after"]:
        raise Refused(fault["error"], "a fault that the test injected")
    pipeline = existing_pipeline(name)
    structure = pipeline["structure"]
    if token is not None and not TOKEN.fullmatch(token):
        raise Refused("ValidationException", "clientRequestToken has 1 to 128 of [a-zA-Z0-9-]")
    pins = {pin["actionName"]: pin for pin in request.get("sourceRevisions", [])}
    if pins and structure["pipelineType"] == "V1":
        # AWS documents that V1 pipelines accept no source revision overrides. The error code is a guess.
        raise Refused("ValidationException", f"{name} is a V1 pipeline: sourceRevisions can only be used with V2")
    providers = {action["name"]: action["actionTypeId"]["provider"] for action in structure["stages"][0]["actions"]}
    if unknown := set(pins) - set(providers):
        raise Refused("ValidationException", f"{name} has no source action {', '.join(sorted(unknown))}")
    for action, pin in pins.items():
        if pin["revisionType"] != REVISION_TYPES.get(providers[action]):
            # The error code is a guess.
            message = f"{pin['revisionType']} does not pin the {providers[action]} action {action}"
            raise Refused("ValidationException", message)
    variables = _resolved_variables(structure, request.get("variables") or [])
    with changed:
        if token in pipeline["tokens"]:
            return {"pipelineExecutionId": pipeline["tokens"][token]}
        execution = _new_execution(structure, pins, variables)
        if token is not None:
            pipeline["tokens"][token] = execution["id"]
        pipeline["executions"].append(execution)
        threading.Thread(target=runs.run, args=(pipeline, execution), daemon=True, name=f"pipeline-{name}").start()
    if fault["error"]:
        raise Refused(fault["error"], "a fault that the test injected after the start")
    return {"pipelineExecutionId": execution["id"]}


def _resolved_variables(structure: Json, given: list[Json]) -> dict[str, str]:
    """The values of the pipeline's variables: those of the start, and the defaults for the others."""
    values = {one["name"]: one["value"] for one in given}
    declared = {one["name"]: one.get("defaultValue") for one in structure.get("variables", [])}
    # AWS does not document the error codes of these refusals.
    if given and structure["pipelineType"] == "V1":
        raise Refused("ValidationException", "variables can only be used with V2 pipelines")
    if unknown := set(values) - set(declared):
        raise Refused("ValidationException", f"The pipeline has no variable {', '.join(sorted(unknown))}")
    if empty := [name for name, value in values.items() if not value]:
        raise Refused("ValidationException", f"Variable {', '.join(empty)} has a value without characters")
    resolved = {name: values.get(name) or default for name, default in declared.items()}
    if missing := [name for name, value in resolved.items() if not value]:
        raise Refused("ValidationException", f"Variable {', '.join(missing)} has neither a value nor a default")
    return resolved


def _new_execution(structure: Json, pins: Json, variables: dict[str, str]) -> Json:
    return {
        "id": str(uuid.uuid4()),
        "account": get_account_id(),
        "region": get_region(),
        "structure": structure,
        "status": "InProgress",
        "start": time.time(),
        "update": time.time(),
        "pins": pins,
        "stop": None,
        "abandoned": False,
        # Whether the execution had its turn, the number of its attempt, and the actions that succeeded in each stage.
        "begun": False,
        "attempt": 1,
        "done": {},
        "pinned": {action: {"name": action, "revisionId": pin["revisionValue"]} for action, pin in pins.items()},
        # The revisions that the source actions took.
        "revisions": {},
        "trigger": {"triggerType": "StartPipelineExecution", "triggerDetail": iam_evaluator.caller_arn()},
        "actions": [],
        "artifacts": {},
        # The variables by namespace. Those of the pipeline itself have the namespace `variables`.
        "variables": {"variables": variables},
    }


def _stop_pipeline_execution(request: Json) -> Json:
    """Stops an execution: after the action that runs, or at once with `abandon`.

    AWS does not document whether an approval that waits counts as an action that runs. Here it does, so without
    `abandon` the execution stops only after somebody has answered.
    """
    execution = existing_execution(request)
    abandon = bool(request.get("abandon"))
    with changed:
        if execution["status"] in ENDED:
            raise Refused("PipelineExecutionNotStoppableException", f"Execution {execution['id']} has ended")
        if execution["status"] == "Stopping" and not abandon:
            raise Refused("DuplicatedStopRequestException", f"Execution {execution['id']} is stopping already")
        execution.update(stop=request.get("reason", ""), status="Stopping", abandoned=abandon)
        changed.notify_all()
    if abandon:
        runs.abandon(execution)
    return {"pipelineExecutionId": execution["id"]}


def _retry_stage_execution(request: Json) -> Json:
    execution, name = existing_execution(request), request.get("stageName")
    pipeline = existing_pipeline(request.get("pipelineName"))
    stages = {stage["name"]: stage for stage in execution["structure"]["stages"]}
    if name not in stages:
        raise Refused("StageNotFoundException", f"The pipeline has no stage {name}")
    with changed:
        later = pipeline["executions"][pipeline["executions"].index(execution) + 1 :]
        if any(action["stageName"] == name for one in later for action in one["actions"]):
            raise Refused("NotLatestPipelineExecutionException", f"Stage {name} ran in a later execution")
        done = execution["done"].get(name, set())
        failed = name in execution["done"] and len(done) < len(stages[name]["actions"])
        if execution["status"] not in ("Failed", "Stopped") or not failed:
            raise Refused("StageNotRetryableException", f"Stage {name} has no failed action that can be retried")
        if request.get("retryMode") == "ALL_ACTIONS":
            done.clear()
        execution.update(
            status="InProgress", update=time.time(), stop=None, abandoned=False, attempt=execution["attempt"] + 1
        )
        changed.notify_all()
    thread = threading.Thread(target=runs.resume, args=(pipeline, execution, name), daemon=True)
    thread.start()
    return {"pipelineExecutionId": execution["id"]}


def _get_pipeline_execution(request: Json) -> Json:
    execution = existing_execution(request)
    answer = {
        "pipelineName": request["pipelineName"],
        "pipelineVersion": execution["structure"]["version"],
        "pipelineExecutionId": execution["id"],
        "status": execution["status"],
        "artifactRevisions": list(shown_revisions(execution).values()),
        "variables": [
            {"name": variable, "resolvedValue": value}
            for variable, value in execution["variables"]["variables"].items()
        ],
        "trigger": execution["trigger"],
        "executionMode": execution["structure"]["executionMode"],
        "executionType": "STANDARD",
    }
    return {"pipelineExecution": answer | ({"statusSummary": execution["stop"]} if execution["stop"] else {})}


def _list_pipeline_executions(request: Json) -> Json:
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
                    for action, revision in shown_revisions(one).items()
                ],
            }
            for one in reversed(existing_pipeline(request.get("pipelineName"))["executions"])
        ],
        "pipelineExecutionSummaries",
        request,
    )


def _list_action_executions(request: Json) -> Json:
    wanted = (request.get("filter") or {}).get("pipelineExecutionId")
    executions = existing_pipeline(request.get("pipelineName"))["executions"]
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


def _get_pipeline_state(request: Json) -> Json:
    pipeline = existing_pipeline(request.get("name"))
    latest = {
        (action["stageName"], action["actionName"]): action
        for one in pipeline["executions"]
        for action in one["actions"]
    }
    return {
        "pipelineName": request["name"],
        "pipelineVersion": pipeline["structure"]["version"],
        "stageStates": [_state_of_stage(stage, latest) for stage in pipeline["structure"]["stages"]],
        "created": pipeline["created"],
        "updated": pipeline["updated"],
    }


def _state_of_stage(stage: Json, latest: dict[tuple[str, str], Json]) -> Json:
    """The state of a stage; `latest` has the last execution of each action, by the names of stage and action."""
    name = stage["name"]
    actions = [_state_of_action(action["name"], latest.get((name, action["name"]))) for action in stage["actions"]]
    state: Json = {"stageName": name, "actionStates": actions}
    if ran := [action for (of_stage, _), action in latest.items() if of_stage == name]:
        execution = max(ran, key=lambda action: action["startTime"])["pipelineExecutionId"]
        statuses = [action["status"] for action in ran if action["pipelineExecutionId"] == execution]
        status = next((one for one in ("Failed", "InProgress") if one in statuses), "Succeeded")
        state["latestExecution"] = {"pipelineExecutionId": execution, "status": status}
    return state


def _state_of_action(name: str, latest: Json | None) -> Json:
    if not latest:
        return {"actionName": name}
    result = latest["output"].get("executionResult", {})
    waits = latest.get("token") and latest["status"] == "InProgress"
    return {
        "actionName": name,
        "latestExecution": {
            "actionExecutionId": latest["actionExecutionId"],
            "status": latest["status"],
            "lastStatusChange": latest["lastUpdateTime"],
            "summary": result.get("externalExecutionSummary", ""),
            **({"errorDetails": result["errorDetails"]} if "errorDetails" in result else {}),
            **({"token": latest["token"]} if waits else {}),
        },
    }


def _put_approval_result(request: Json) -> Json:
    with changed:
        for one in existing_pipeline(request.get("pipelineName"))["executions"]:
            for action in one["actions"]:
                if action.get("token") and action["token"] == request.get("token"):
                    if action["status"] != "InProgress":
                        raise Refused("ApprovalAlreadyCompletedException", "The approval has been completed")
                    action["approval"] = request["result"]
                    changed.notify_all()
                    return {"approvedAt": time.time()}
    raise Refused("InvalidApprovalTokenException", "The approval token is not valid")
