"""Runs an execution: waits for the pipeline's earlier executions, then runs the stages and their actions."""

import re
import time
import traceback
import uuid

from botocore.exceptions import ClientError
from ministack.core.responses import request_scope

from local_cloud.codepipeline.actions import ACTIONS, Stopped
from local_cloud.codepipeline.events import emit
from local_cloud.codepipeline.permissions import Failed
from local_cloud.codepipeline.state import ENDED, changed, is_halted
from local_cloud.services import Json


def run(pipeline: Json, execution: Json) -> None:
    """Runs the execution to its end. Each execution has a thread that calls this function."""
    with request_scope(execution["account"], execution["region"]):
        if _wait_for_turn(pipeline, execution):
            emit(execution, "Pipeline", "STARTED")
            _run_stages(execution, execution["structure"]["stages"], "STARTED")


def resume(pipeline: Json, execution: Json, stage: str) -> None:
    """Runs the execution again from a failed stage on. A retry has a thread that calls this function."""
    with request_scope(execution["account"], execution["region"]):
        emit(execution, "Pipeline", "RESUMED")
        with changed:
            while any(other["begun"] and other["status"] not in ENDED for other in _others(pipeline, execution)):
                changed.wait(1)
        stages = execution["structure"]["stages"]
        first = next(place for place, one in enumerate(stages) if one["name"] == stage)
        _run_stages(execution, stages[first:], "RESUMED")


def _others(pipeline: Json, execution: Json) -> list[Json]:
    """The executions whose end this one waits for."""
    if execution["structure"]["executionMode"] == "PARALLEL":
        return []
    return [other for other in pipeline["executions"] if other is not execution]


def _run_stages(execution: Json, stages: list[Json], began_as: str) -> None:
    try:
        for stage in stages:
            _run_stage(execution, stage, began_as if stage is stages[0] else "STARTED")
        end(execution, "Succeeded")
    except Failed:
        end(execution, "Failed")
    except Stopped:
        end(execution, "Stopped")


def _wait_for_turn(pipeline: Json, execution: Json) -> bool:
    """Waits until the earlier executions have ended; returns False if this one is superseded or stopped before."""
    mode = execution["structure"]["executionMode"]
    with changed:
        while mode != "PARALLEL":
            place = pipeline["executions"].index(execution)
            if all(earlier["status"] in ENDED for earlier in pipeline["executions"][:place]):
                break
            if mode == "SUPERSEDED" and len(pipeline["executions"]) > place + 1:
                end(execution, "Superseded")
                return False
            if is_halted(execution):
                break
            changed.notify_all()
            changed.wait(1)
        if is_halted(execution):
            end(execution, "Stopped")
            return False
        execution["begun"] = True
    return True


def end(execution: Json, status: str) -> None:
    """Ends the execution with this status, unless the execution has ended."""
    with changed:
        if execution["status"] in ENDED:
            return
        execution.update(status=status, update=time.time())
        changed.notify_all()
    # The status is spelled with two l, and the state in the event with one.
    emit(execution, "Pipeline", {"Cancelled": "CANCELED"}.get(status, status.upper()))


def abandon(execution: Json) -> None:
    """Ends the execution and the action that runs. As on AWS, what the action began elsewhere goes on by itself."""
    with changed:
        running = [action for action in execution["actions"] if action["status"] == "InProgress"]
        for action in running:
            action.update(status="Abandoned", lastUpdateTime=time.time())
    for action in running:
        emit(execution, "Action", "ABANDONED", action)
    end(execution, "Stopped")


def _run_stage(execution: Json, stage: Json, began_as: str) -> None:
    emit(execution, "Stage", began_as, stage=stage["name"])
    done = execution["done"].setdefault(stage["name"], set())
    try:
        for action in sorted(stage["actions"], key=lambda one: one.get("runOrder", 1)):
            if action["name"] not in done:
                _run_action(execution, stage, action)
                done.add(action["name"])
    except Failed:
        emit(execution, "Stage", "FAILED", stage=stage["name"])
        raise
    emit(execution, "Stage", "SUCCEEDED", stage=stage["name"])


def _run_action(execution: Json, stage: Json, action: Json) -> None:
    if is_halted(execution):
        raise Stopped
    detail = _new_detail(execution, stage, action)
    execution["actions"].append(detail)
    emit(execution, "Action", "STARTED", detail)
    try:
        summary = _perform(execution, action, detail)
        result: Json = {"externalExecutionSummary": summary}
    except Stopped:
        with changed:
            detail.update(status="Abandoned", lastUpdateTime=time.time())
        raise
    except Exception as error:  # whatever the error is, the execution must end and report it
        failure = _failure(error)
        details = {"code": failure.code, "message": str(failure)}
        result = {"externalExecutionSummary": str(failure), "errorDetails": details}
    status = "Failed" if "errorDetails" in result else "Succeeded"
    detail["output"]["executionResult"] = result
    with changed:
        if detail["status"] == "Abandoned":
            raise Stopped
        detail.update(status=status, lastUpdateTime=time.time())
    emit(execution, "Action", status.upper(), detail)
    if status == "Failed":
        raise Failed(result["errorDetails"]["code"], result["externalExecutionSummary"])


def _new_detail(execution: Json, stage: Json, action: Json) -> Json:
    """A new entry for the action, in the format of ListActionExecutions."""
    inputs = [
        {"name": one["name"], "s3location": execution["artifacts"].get(one["name"], {})}
        for one in action.get("inputArtifacts", [])
    ]
    detail: Json = {
        "pipelineExecutionId": execution["id"],
        "actionExecutionId": str(uuid.uuid4()),
        "pipelineVersion": execution["structure"]["version"],
        "stageName": stage["name"],
        "actionName": action["name"],
        "startTime": time.time(),
        "lastUpdateTime": time.time(),
        "status": "InProgress",
        "input": {
            "actionTypeId": action["actionTypeId"],
            "configuration": action.get("configuration", {}),
            "region": action.get("region", execution["region"]),
            "inputArtifacts": inputs,
        },
        "output": {"outputArtifacts": [], "outputVariables": {}},
    }
    detail["input"] |= {key: action[key] for key in ("roleArn", "namespace") if action.get(key)}
    return detail


def _perform(execution: Json, action: Json, detail: Json) -> str:
    kind = action["actionTypeId"]
    perform = ACTIONS.get((kind["category"], kind["provider"]))
    if perform is None:
        raise Failed("ConfigurationError", f"The local cloud does not run {kind['category']} by {kind['provider']}")
    configuration = _with_variables(execution, action.get("configuration", {}))
    detail["input"]["resolvedConfiguration"] = configuration
    return perform(execution, action, configuration, detail)


def _with_variables(execution: Json, configuration: dict[str, str]) -> Json:
    """The configuration with the values of variables such as `#{Source.CommitId}`."""

    def value_of(found: re.Match[str]) -> str:
        value: str = execution["variables"].get(found[1], {}).get(found[2], found[0])
        return value

    return {key: re.sub(r"#\{([\w@-]+)\.([\w@-]+)\}", value_of, value) for key, value in configuration.items()}


def _failure(error: Exception) -> Failed:
    """Converts an error to the failure of the action."""
    if isinstance(error, Failed):
        return error
    if isinstance(error, ClientError):
        denied = "AccessDenied" in error.response["Error"]["Code"]
        return Failed("PermissionError" if denied else "JobFailed", str(error))
    traceback.print_exc()
    return Failed("InternalError", f"{type(error).__name__}: {error}")
