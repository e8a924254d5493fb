"""The pipelines and their executions, and the faults that tests inject."""

import json
import threading
from typing import Any

from ministack.core.responses import AccountRegionScopedDict, get_account_id, get_region

from local_cloud.services import Json, Refused

ENDED = ("Succeeded", "Failed", "Stopped", "Superseded", "Cancelled")

pipelines = AccountRegionScopedDict()
# One lock for all pipelines. Each change of an execution notifies the threads that wait for this condition.
changed = threading.Condition(threading.RLock())
_faults: list[Json] = []
_settings = {"early_revisions": False}


def pipeline_arn(name: str) -> str:
    """The ARN of a pipeline in the current account and region."""
    return f"arn:aws:codepipeline:{get_region()}:{get_account_id()}:{name}"


def existing_pipeline(name: str | None) -> Json:
    """The pipeline with this name; raises `Refused` if there is none."""
    pipeline: Json | None = pipelines.get(name)
    if pipeline is None:
        raise Refused(
            "PipelineNotFoundException",
            f"The account with id '{get_account_id()}' does not include a pipeline with the name '{name}'",
        )
    return pipeline


def existing_execution(request: Json) -> Json:
    """The execution that the request names."""
    identity = request.get("pipelineExecutionId")
    for execution in existing_pipeline(request.get("pipelineName"))["executions"]:
        if execution["id"] == identity:
            found: Json = execution
            return found
    raise Refused("PipelineExecutionNotFoundException", f"No execution {identity}")


def is_halted(execution: Json) -> bool:
    """Whether no further action of the execution may start, because the execution was stopped or cancelled."""
    return execution["stop"] is not None or execution["status"] == "Cancelled"


def add_fault(_: str, body: bytes) -> tuple[int, str]:
    """Makes the next `count` calls of StartPipelineExecution in `account` slow, or makes them fail.

    `pipeline` limits the fault to one pipeline. Each call takes `delay` seconds longer. If `error` is given, the call
    fails with this error before it starts an execution. If `after` is set, the call starts the execution before it
    fails, so only the answer is lost.
    """
    fault: dict[str, Any] = {"pipeline": None, "count": 1, "error": None, "delay": 0, "after": False} | json.loads(body)
    if unknown := set(fault) - {"account", "pipeline", "count", "error", "delay", "after"}:
        raise ValueError(f"a fault has no {', '.join(sorted(unknown))}")
    fault["account"], fault["count"], fault["delay"] = str(fault["account"]), int(fault["count"]), float(fault["delay"])
    with changed:
        _faults.append(fault)
    return 200, "added\n"


def next_fault(name: str | None) -> Json:
    """Returns the fault for the current call, and counts the call. If there is no fault, returns one without effect."""
    with changed:
        for fault in _faults:
            if fault["account"] == get_account_id() and fault["pipeline"] in (None, name) and fault["count"] > 0:
                fault["count"] -= 1
                return fault
    return {"error": None, "delay": 0, "after": False}


def set_revisions(when: str, _: bytes) -> tuple[int, str]:
    """Sets when executions show their source revisions: `early` (at the start) or `late` (after the source action).

    AWS does not document which of the two it does.
    """
    if when not in ("early", "late"):
        raise ValueError(f"revisions are shown early or late, not {when!r}")
    _settings["early_revisions"] = when == "early"
    return 200, f"{when}\n"


def shown_revisions(execution: Json) -> dict[str, Json]:
    """The source revisions that the API shows, by source action."""
    revisions: dict[str, Json] = execution["revisions"]
    if _settings["early_revisions"]:
        return execution["pinned"] | revisions
    return revisions


# The HTTP paths on which tests inject faults and choose behavior. No AWS client uses these paths.
PATHS = {"faults": add_fault, "revisions": set_revisions}
