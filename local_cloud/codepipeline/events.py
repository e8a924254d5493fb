"""The events that CodePipeline puts on the account's default bus."""

import time

from local_cloud import buses
from local_cloud.codepipeline.state import pipeline_arn
from local_cloud.services import Json


def emit(execution: Json, subject: str, state: str, action: Json | None = None, **more: object) -> None:
    """Puts an event about a pipeline, stage or action (`subject`) on the bus."""
    structure = execution["structure"]
    began = time.gmtime(action["startTime"] if action else execution["start"])
    detail = {
        "pipeline": structure["name"],
        "execution-id": execution["id"],
        "state": state,
        "version": float(structure["version"]),
        "pipeline-execution-attempt": float(execution["attempt"]),
        "start-time": time.strftime("%Y-%m-%dT%H:%M:%S.000Z", began),
        **more,
    }
    if subject == "Pipeline":
        detail["execution-trigger"] = {
            "trigger-type": execution["trigger"]["triggerType"],
            "trigger-detail": execution["trigger"]["triggerDetail"],
        }
    if action:
        detail |= _detail_of_action(action, state)
    detail_type = f"CodePipeline {subject} Execution State Change"
    arn = pipeline_arn(structure["name"])
    buses.emit(execution["account"], execution["region"], "aws.codepipeline", detail_type, detail, [arn])


def _detail_of_action(action: Json, state: str) -> Json:
    kind, result = action["input"]["actionTypeId"], action["output"].get("executionResult")
    detail = {
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
    return detail
